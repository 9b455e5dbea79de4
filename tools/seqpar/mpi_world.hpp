#pragma once

#include "agree.hpp"

#include <seqpar/comm/mpi.hpp>
#include <seqpar/core/cores.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/verify/collect.hpp>

#include <optional>
#include <string>
#include <utility>

namespace seqpar::tool {

/// The ranks are the processes of an MPI job. A world as thread_world describes it.
class mpi_world {
public:
    static constexpr const char* name = "MPI";

    explicit mpi_world(mpi_communicator job) : job_(std::move(job)) {}

    void settle(std::optional<int> asked) const {
        if (asked && *asked != job_.size())
            throw refusal(detail::concat("--ranks ", *asked, " differs from the ", job_.size(),
                                         " ranks of this MPI job: leave it out, or start the job with mpirun -n ",
                                         *asked));
    }
    [[nodiscard]] static std::optional<int> cores() noexcept { return {}; }
    [[nodiscard]] int ranks() const noexcept { return job_.size(); }
    [[nodiscard]] int ranks_here() const { return static_cast<int>(allowed_cores(job_).size()); }
    [[nodiscard]] int cores_here() const {
        core_set any;
        for (const core_set& of_rank : allowed_cores(job_)) any |= of_rank;
        return static_cast<int>(any.count());
    }
    [[nodiscard]] int threads_per_rank() const { return seqpar::threads_per_rank(job_); }
    [[nodiscard]] bool speaks() const noexcept { return job_.rank() == 0; }
    void agree(const std::string& trouble) { tool::agree(job_, trouble); }
    [[nodiscard]] bool same(int value) { return share(job_, value) == value; }
    template <class F>
    void run(F&& f) {
        std::forward<F>(f)(job_);
    }

private:
    mpi_communicator job_;
};

} // namespace seqpar::tool
