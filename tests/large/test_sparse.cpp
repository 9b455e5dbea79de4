/// Tensors whose elements lie further apart than 2^31: address space that is reserved and hardly touched. Results are those of
/// dense tensors, bit for bit.
#include <support/catch.hpp>
#include <support/random.hpp>

#include <seqpar/attention.hpp>
#include <seqpar/comm/threads.hpp>
#include <seqpar/core/rows.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/strategy/any_strategy.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <utility>

using namespace seqpar;
using testing::normal;

namespace {

constexpr index_t beyond = (index_t{1} << 31) + 1024;

/// A tensor of such strides, in pages of its own that are zero until they are written.
template <class T>
class far_apart {
public:
    far_apart(const extents& shape, const strides& step) : shape_(shape), step_(step) {
        const index_t elements = (shape.batch - 1) * step.batch + (shape.seq - 1) * step.seq +
                                 (shape.heads - 1) * step.heads + (shape.dim - 1) * step.dim + 1;
        bytes_ = static_cast<std::size_t>(elements) * sizeof(T);
        memory_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    far_apart(const far_apart&) = delete;
    far_apart& operator=(const far_apart&) = delete;
    ~far_apart() {
        if (there()) ::munmap(memory_, bytes_);
    }
    /// Not every machine lends address space that it could not fill.
    [[nodiscard]] bool there() const noexcept { return memory_ != MAP_FAILED; }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] tensor_view<T> view() const noexcept { return {static_cast<T*>(memory_), shape_, step_}; }

private:
    extents shape_;
    strides step_;
    std::size_t bytes_ = 0;
    void* memory_ = nullptr;
};

template <class T>
[[nodiscard]] bool same(const tensor<T>& a, const tensor<T>& b) {
    return a.shape() == b.shape() &&
           std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.shape().count()) * sizeof(T)) == 0;
}

constexpr index_t rows = 44, heads = 4, kv_heads = 2, dim = 16;

/// Heads, rows, or batch entries beyond 2^31 elements from each other.
struct arrangement {
    const char* name;
    strides step;
};
constexpr index_t between_rows = beyond / (rows - 4);
const arrangement arrangements[] = {{"heads", {rows * dim, dim, beyond, 1}},
                                    {"rows", {rows * between_rows, between_rows, dim, 1}},
                                    {"batch entries", {beyond, heads* dim, dim, 1}}};

template <class T>
void check(const any_kernel& kernel) {
    for (const arrangement& how : arrangements) {
        const index_t batch = how.step.batch == beyond ? 2 : 1;
        const tensor<T> q = normal<T>({batch, rows, heads, dim}, 1), k = normal<T>({batch, rows, kv_heads, dim}, 2),
                        v = normal<T>({batch, rows, kv_heads, dim}, 3), dout = normal<T>({batch, rows, heads, dim}, 4);
        const far_apart<T> far_q(q.shape(), how.step), far_k(k.shape(), how.step), far_v(v.shape(), how.step),
            far_dout(dout.shape(), how.step);
        if (!far_q.there() || !far_k.there() || !far_v.there() || !far_dout.there()) {
            WARN("this machine lends no address space of " << far_q.bytes() << " bytes: nothing is tested");
            return;
        }
        REQUIRE(far_q.bytes() / sizeof(T) > std::size_t{1} << 31);
        copy(q.view(), far_q.view()), copy(k.view(), far_k.view());
        copy(v.view(), far_v.view()), copy(dout.view(), far_dout.view());

        for (const auto& [ranks, strategy] :
             {std::pair<int, any_strategy<thread_communicator>>{1, serial{}}, {2, ring{}}, {2, ulysses<>{}}})
            threads::run(ranks, [&, ranks = ranks, &strategy = strategy](thread_communicator world) {
                attention attend{world, strategy, any_score(causal{}), kernel, span_backend<T>{}};
                const index_t mine = rows / ranks, first = mine * world.rank();
                const auto part = [&](const auto& x) { return x.rows(first, mine); }; // far_apart: at far places
                const auto dense = [&](const tensor<T>& x) { return tensor_view<const T>(part(x.view())); };
                const auto far = [&](const far_apart<T>& x) { return tensor_view<const T>(part(x.view())); };
                const auto near_run = attend.forward(dense(q), dense(k), dense(v));
                const auto far_run = attend.forward(far(far_q), far(far_k), far(far_v));
                const auto near_back = attend.backward(dense(dout), near_run),
                           far_back = attend.backward(far(far_dout), far_run);
                if (!same(near_run.out, far_run.out) || !same(near_run.lse, far_run.lse) ||
                    !same(near_back.dq, far_back.dq) || !same(near_back.dk, far_back.dk) ||
                    !same(near_back.dv, far_back.dv))
                    throw error(
                        detail::concat(how.name, " far apart: ", attend.name(), " differs on rank ", world.rank()));
                if (near_run.out(0, 3, 1, 2) == T{} || near_back.dk(0, 3, 1, 2) == T{})
                    throw error("nothing is computed");
            });
    }
    SUCCEED();
}

} // namespace

TEMPLATE_TEST_CASE("elements further apart than 2^31 are computed as if they were side by side", "", float, bfloat16) {
    check<TestType>(flash{});
    check<TestType>(reference{});
}

TEST_CASE("rows are taken from and put into places beyond 2^31 elements") {
    const extents e{1, rows, 2, 3};
    const far_apart<float> whole(e, {1, between_rows, 3, 1});
    if (!whole.there()) {
        WARN("this machine lends no address space of " << whole.bytes() << " bytes: nothing is tested");
        return;
    }
    const tensor<float> x = normal<float>(e, 5);
    for (int r = 0; r < 3; ++r) {
        const positions at = zigzag{}.positions(r, 3, rows);
        tensor<float> mine({1, at.size(), 2, 3});
        take_rows(x.view(), at, mine.view());
        put_rows(std::as_const(mine).view(), at, whole.view());
    }
    CHECK(whole.view().rows(rows - 1, 1).data() - whole.view().data() > std::ptrdiff_t{1} << 31);
    tensor<float> back(e);
    copy(whole.view(), back.view());
    CHECK(same(back, x));
    tensor<float> last({1, 2, 2, 3});
    take_rows(tensor_view<const float>(whole.view()), positions{run{position(rows - 2), 1, 2}}, last.view());
    CHECK(last(0, 1, 1, 2) == x(0, rows - 1, 1, 2));
}
