#pragma once

#include "agree.hpp"

#include <seqpar/comm/mpi.hpp>
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
    [[nodiscard]] static int ranks_here() {
        MPI_Comm here = MPI_COMM_NULL;
        int size = 1;
        if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here) != MPI_SUCCESS ||
            MPI_Comm_size(here, &size) != MPI_SUCCESS)
            throw error("MPI does not tell how many ranks share this machine");
        MPI_Comm_free(&here);
        return size;
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
