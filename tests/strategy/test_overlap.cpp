/// What travels, travels while the kernel runs: each exchange of a ring, and of a streamed V, is posted before the kernel
/// that computes with the block before it, and waited for after.
#include <support/catch.hpp>
#include <support/scheme_case.hpp>

#include <seqpar/comm/threads.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/ring.hpp>

#include <memory>
#include <string>
#include <vector>

using namespace seqpar;

namespace {

using diary = std::shared_ptr<std::vector<std::string>>;

/// Writes down what is posted and waited for.
class observed {
public:
    observed(thread_communicator inner, diary log) : inner_(std::move(inner)), log_(std::move(log)) {}

    class request {
    public:
        request() = default;
        request(request_t<thread_communicator> inner, diary log) : inner_(std::move(inner)), log_(std::move(log)) {}
        void wait() {
            inner_.wait();
            if (log_) log_->push_back("wait");
            log_.reset();
        }
        bool test() {
            if (log_) log_->push_back("test");
            return inner_.test();
        }

    private:
        request_t<thread_communicator> inner_;
        diary log_;
    };

    [[nodiscard]] int rank() const { return inner_.rank(); }
    [[nodiscard]] int size() const { return inner_.size(); }
    request exchange(outgoing out, int to, incoming in, int from) {
        log_->push_back("post");
        return {inner_.exchange(out, to, in, from), log_};
    }
    [[nodiscard]] observed split(int color, int key) { return {inner_.split(color, key), log_}; }

private:
    thread_communicator inner_;
    diary log_;
};
static_assert(communicator<observed>);

struct observed_kernel : reference {
    diary log;
    template <real_element T, score S>
    void forward(const context& how, const block<const T>& q, std::span<const key_block<T>> keys, const S& s,
                 partial<accumulator_t<T>>& into) const {
        log->push_back("kernel " + std::to_string(keys.size()));
        reference::forward(how, q, keys, s, into);
        log->push_back("done");
    }
};

template <class Strategy>
std::vector<std::string> diary_of(const Strategy& strategy) {
    std::vector<std::string> result;
    threads::run(4, [&](thread_communicator world) {
        const auto log = std::make_shared<std::vector<std::string>>();
        const auto q = testing::normal<float>({1, 5, 2, 4}, static_cast<std::uint64_t>(world.rank()));
        observed_kernel kernel;
        kernel.log = log;
        attention attend{observed(world, log), strategy, kernel};
        static_cast<void>(attend.forward(q, q, q)); // the preflight's exchanges come first
        log->clear();
        static_cast<void>(attend.forward(q, q, q));
        if (world.rank() == 2) result = *log;
    });
    return result;
}

/// The diary from the first kernel, or the post that belongs to it, without tests.
std::vector<std::string> essence(std::vector<std::string> log, std::size_t preflight) {
    log.erase(std::remove(log.begin(), log.end(), "test"), log.end());
    log.erase(log.begin(), log.begin() + static_cast<std::ptrdiff_t>(preflight));
    return log;
}

} // namespace

TEST_CASE("ring posts before the kernel and waits after it") {
    const auto log = diary_of(ring{});
    const std::vector<std::string> step{"post", "kernel 1", "done", "wait"};
    std::vector<std::string> expected;
    for (int s = 0; s < 3; ++s) expected.insert(expected.end(), step.begin(), step.end());
    expected.insert(expected.end(), {"kernel 1", "done"});
    CHECK(essence(log, 2 * 4) == expected);                 // preflight: two rounds, each of two posts and two waits
    CHECK(std::count(log.begin(), log.end(), "test") >= 3); // the kernel's hook keeps the exchange moving
}

TEST_CASE("streamed V is posted before the kernel and waited for after it") {
    const std::vector<std::string> expected{
        "post", "wait",     "post",
        "wait", "post",     "wait", // K is gathered
        "post", "post",     "kernel 1",
        "done", "wait",     "wait", // two blocks of V travel while the own one is computed
        "post", "kernel 2", "done",
        "wait", "kernel 1", "done", // one while those two are
    };
    CHECK(essence(diary_of(all_gather{2}), 2 * 4) == expected);
}

TEST_CASE("gathered K and V are one element of the monoid: a single kernel call") {
    const std::vector<std::string> expected{"post", "wait", "post", "wait", "post", "wait", "kernel 4", "done"};
    CHECK(essence(diary_of(all_gather{}), 2 * 4) == expected);
}
