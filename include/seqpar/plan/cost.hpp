#pragma once

#include <seqpar/core/function_ref.hpp>
#include <seqpar/core/placement.hpp>
#include <seqpar/core/tensor.hpp>
#include <seqpar/plan/step.hpp>

#include <cstddef>
#include <span>

namespace seqpar::plan {

/// What one rank pays for one pass of an attention, forward or backward: what it sends, in how many rounds, and the most
/// memory that a strategy holds beyond its operands and results (q, k, v, out, lse; in backward dout, delta and the sums of
/// dq, dk, dv, too). What forward keeps for backward counts in both.
struct cost {
    std::size_t messages = 0; ///< nonempty, to other ranks
    std::size_t bytes = 0;    ///< sent to other ranks
    std::size_t rounds = 0;   ///< sets of exchanges between two waits, in which this rank sends or receives
    std::size_t memory = 0;   ///< peak, bytes
    std::size_t kept = 0;     ///< of it, what forward keeps for backward

    friend bool operator==(const cost&, const cost&) = default;
};

/// An attention to be priced. Sizes are integers and rows may differ from rank to rank.
struct problem {
    index_t batch = 1, dim = 0, dim_v = 0;
    index_t group = 1; ///< query heads per kv head
    std::size_t element_bytes = 4, accumulator_bytes = 4;
    index_t partial_scalars = 2;      ///< accumulators of a partial's row beside acc
    bool lse = true;                  ///< lse is returned
    bool keep = false;                ///< forward keeps what it has moved, for backward
    bool into_lse = false;            ///< backward: a gradient flows into lse
    bool complete = true;             ///< backward: dk and dv are complete once they are home
    std::span<const placement> where; ///< of every rank

    using scratch = std::size_t(const extents& q, const extents& v, std::span<const positions> keys);
    /// Scratch of the kernel for these queries, values of this shape and keys at these positions.
    function_ref<scratch> kernel_bytes;
    function_ref<scratch> backward_kernel_bytes = no_scratch; ///< of its backward
    /// Whether some of these queries may see some of these keys.
    function_ref<bool(const origin& queries, const origin& keys)> sees = everything;
    /// Positions of the keys that some of these queries see.
    function_ref<positions(const origin& queries, const origin& keys)> seen = all_of;
    int stride = 1; ///< between the ranks of `where`, in the run: a nested strategy's are not neighbours
    /// What has a use for the steps that add up to the cost; their order is not that in which they happen.
    step_watcher watch = nobody;

    [[nodiscard]] int size() const noexcept { return static_cast<int>(where.size()); }
    [[nodiscard]] const placement& of(int rank) const { return where[static_cast<std::size_t>(rank)]; }

    [[nodiscard]] std::size_t q_bytes(int rank) const { return bytes(of(rank).queries, dim); }
    [[nodiscard]] std::size_t k_bytes(int rank) const { return bytes(of(rank).keys, dim); }
    [[nodiscard]] std::size_t v_bytes(int rank) const { return bytes(of(rank).keys, dim_v); }
    [[nodiscard]] std::size_t kv_bytes(int rank) const { return k_bytes(rank) + v_bytes(rank); }

    /// The partial of the rank's rows: acc, and in most kernels max and sum.
    [[nodiscard]] std::size_t partial_bytes(int rank) const {
        return items(of(rank).queries) * static_cast<std::size_t>(dim_v + partial_scalars) * accumulator_bytes;
    }
    [[nodiscard]] std::size_t kernel(int rank, std::span<const positions> keys) const {
        const origin& q = of(rank).queries;
        return kernel_bytes({batch, q.rows.size(), q.heads.count, dim}, {batch, 0, of(rank).keys.heads.count, dim_v},
                            keys);
    }
    [[nodiscard]] std::size_t backward_kernel(int rank, std::span<const positions> keys) const {
        const origin& q = of(rank).queries;
        return backward_kernel_bytes({batch, q.rows.size(), q.heads.count, dim},
                                     {batch, 0, of(rank).keys.heads.count, dim_v}, keys);
    }

    /// Tells of a step: messages that go `shift` ranks on, and what is computed with a rank's queries meanwhile.
    void tell(std::span<const step::message> sent, std::span<const step::work> computed = {}) const {
        watch({sent, computed});
    }
    void tell(const step::message& sent) const { watch({{&sent, 1}, {}}); }
    void tell(std::span<const step::message> sent, int queries, std::span<const positions> keys) const {
        const step::work computed{&of(queries).queries, keys};
        watch({sent, {&computed, 1}});
    }
    /// A message of `bytes` to the rank that is `shift` further on.
    [[nodiscard]] step::message message(int shift, std::size_t bytes) const {
        return {size(), stride, (shift % size() + size()) % size(), bytes};
    }

    /// Rows x heads x batch.
    [[nodiscard]] std::size_t items(const origin& o) const {
        return static_cast<std::size_t>(batch * o.rows.size() * o.heads.count);
    }

private:
    static constexpr auto no_scratch = [](const extents&, const extents&, std::span<const positions>) {
        return std::size_t{0};
    };
    static constexpr auto nobody = [](const step&) {};
    static constexpr auto everything = [](const origin&, const origin&) { return true; };
    static constexpr auto all_of = [](const origin&, const origin& keys) { return keys.rows; };

    [[nodiscard]] std::size_t bytes(const origin& o, index_t d) const {
        return items(o) * static_cast<std::size_t>(d) * element_bytes;
    }
};

} // namespace seqpar::plan
