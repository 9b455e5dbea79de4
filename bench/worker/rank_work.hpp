#pragma once

#include "problem.hpp"
#include "work.hpp"

#include "tools/seqpar/choices.hpp"
#include "tools/seqpar/strategy_name.hpp"

#include <seqpar/attention.hpp>
#include <seqpar/backend/span.hpp>
#include <seqpar/comm/collectives.hpp>
#include <seqpar/core/rows.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/verify/collect.hpp>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace bench {

/// A strategy through the facade, as one rank of a communicator sees it. Every call is collective.
template <class T, seqpar::communicator C>
class rank_work final : public work {
    using scheme = seqpar::attention<seqpar::any_strategy<C>, C, seqpar::span_backend<T>, seqpar::any_score,
                                     seqpar::any_layout, seqpar::any_kernel, seqpar::thread_pool, seqpar::options>;

public:
    rank_work(const C& comm, const request& r)
        : layout_(seqpar::tool::layout_named(r.layout)),
          attend_(comm, seqpar::tool::strategy_name::parse(r.strategy).on<C>(), seqpar::span_backend<T>{}, score_of(r),
                  layout_, seqpar::tool::kernel_named("flash"), seqpar::thread_pool(r.threads),
                  seqpar::options{.lse = r.backward()}),
          where_(seqpar::detail::place(layout_, attend_.comm().size(), {r.tokens, r.keys}, r.heads, r.kv_heads)) {
        const arrays<T> whole(r);
        const auto& here = where_[static_cast<std::size_t>(attend_.comm().rank())];
        const auto mine = [](const seqpar::tensor_view<const T>& from, const seqpar::positions& rows) {
            const seqpar::extents& e = from.shape();
            seqpar::tensor<T> part({e.batch, rows.size(), e.heads, e.dim});
            seqpar::take_rows(from, rows, part.view());
            return part;
        };
        q_ = mine(whole.q.view(), here.queries.rows);
        k_ = mine(whole.k.view(), here.keys.rows), v_ = mine(whole.v.view(), here.keys.rows);
        if (!r.backward()) return;
        dout_ = mine(whole.dout.view(), here.queries.rows);
        result_.emplace(attend_.forward(q_, k_, v_));
    }

    /// The largest over the ranks.
    [[nodiscard]] double run(int times) override {
        auto& comm = attend_.comm();
        seqpar::collective::barrier(comm);
        const auto start = std::chrono::steady_clock::now();
        for (int n = 0; n < times; ++n) {
            if (dout_.shape().count() == 0)
                result_.emplace(attend_.forward(q_, k_, v_));
            else
                gradients_.emplace(attend_.backward(dout_, *result_));
        }
        const double mine = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        std::vector<double> all(static_cast<std::size_t>(comm.size()));
        seqpar::collective::all_gather_doubling(
            comm, seqpar::outgoing{reinterpret_cast<const std::byte*>(&mine), sizeof mine},
            reinterpret_cast<std::byte*>(all.data()));
        return *std::max_element(all.begin(), all.end());
    }
    /// Rank 0 writes for all.
    void write(const std::string& directory) override {
        if (!gradients_) return write_part(directory, "out.npy", result_->out, &seqpar::placement::queries);
        write_part(directory, "dq.npy", gradients_->dq, &seqpar::placement::queries);
        write_part(directory, "dk.npy", gradients_->dk, &seqpar::placement::keys);
        write_part(directory, "dv.npy", gradients_->dv, &seqpar::placement::keys);
    }

private:
    void write_part(const std::string& directory, const char* name, const seqpar::tensor<T>& part,
                    seqpar::origin seqpar::placement::*which) {
        const auto whole = seqpar::collect(attend_.comm(), part.view(), where_, which);
        if (attend_.comm().rank() == 0) write_array(directory, name, whole);
    }

    seqpar::any_layout layout_;
    scheme attend_;
    std::vector<seqpar::placement> where_;
    seqpar::tensor<T> q_, k_, v_, dout_;
    std::optional<decltype(attend_.forward(q_, k_, v_))> result_;
    std::optional<decltype(attend_.backward(dout_, *result_))> gradients_;
};

} // namespace bench
