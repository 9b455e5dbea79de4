#pragma once

#include <seqpar/comm/threads.hpp>
#include <seqpar/core/cores.hpp>
#include <seqpar/core/error.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

namespace seqpar::tool {

/// Where the ranks live: here, in threads of this process. A world W with a value w:
///   1. w.settle(ranks) decides on the number of ranks, which may be asked for; throws refusal if it cannot be that.
///      w.ranks_here() is how many of them are on this machine, w.cores_here() how many cores these may use, and
///      w.threads_per_rank() how many threads each may have.
///      w.cores() is what to ask for, so that each core has a rank, where the number can be asked for.
///   2. w.speaks() tells whether this process is the one that prints and writes.
///   3. w.agree(trouble) throws refusal(trouble), in every process, if trouble is not empty in one of them.
///   4. w.same(value) tells whether all processes gave that value.
///   5. w.run(f) calls f(communicator) on each rank. W::name says what they are.
class thread_world {
public:
    static constexpr const char* name = "threads";

    void settle(std::optional<int> asked) { ranks_ = asked.value_or(1); }
    [[nodiscard]] static std::optional<int> cores() noexcept {
        return std::min(seqpar::cores_here(), threads::max_ranks);
    }
    [[nodiscard]] int ranks() const noexcept { return ranks_; }
    [[nodiscard]] int ranks_here() const noexcept { return ranks_; }
    [[nodiscard]] static int cores_here() noexcept { return seqpar::cores_here(); }
    [[nodiscard]] int threads_per_rank() const { return seqpar::threads_per_rank(ranks_); }
    [[nodiscard]] static constexpr bool speaks() noexcept { return true; }

    static void agree(const std::string& trouble) {
        if (!trouble.empty()) throw refusal(trouble);
    }
    [[nodiscard]] static bool same(int) noexcept { return true; }
    template <class F>
    void run(F&& f) const {
        threads::run(ranks_, std::forward<F>(f));
    }

private:
    int ranks_ = 1;
};

} // namespace seqpar::tool
