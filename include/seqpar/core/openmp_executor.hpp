#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/core/tensor.hpp>

#ifndef _OPENMP
#error "seqpar/core/openmp_executor.hpp needs a compiler that has OpenMP switched on: link seqpar::openmp"
#endif
#include <omp.h>

#include <atomic>
#include <exception>

namespace seqpar {

/// The threads of OpenMP: for programs that use it already, so that there is one pool and not two.
///
/// Threads take items as they become free. Inside of another parallel region there may be fewer threads than asked for,
/// down to the caller alone, as OpenMP decides: results do not depend on it.
struct openmp_executor {
    /// Of each run; 0: as many as OpenMP would take here, which OMP_NUM_THREADS decides.
    int threads = 0;

    [[nodiscard]] int workers() const {
        if (threads < 0)
            throw refusal(detail::concat("an openmp_executor of ", threads,
                                         " threads: allowed are 1 or more, or 0 for OpenMP's own choice"));
        return threads == 0 ? omp_get_max_threads() : threads;
    }
    void run(index_t count, task work) const {
        std::atomic<index_t> next{0};
        std::exception_ptr failure;
#pragma omp parallel num_threads(workers())
        try {
            for (index_t item; (item = next.fetch_add(1)) < count;) work(item, omp_get_thread_num());
        } catch (...) {
            next = count;
#pragma omp critical(seqpar_openmp_executor)
            if (!failure) failure = std::current_exception();
        }
        if (failure) std::rethrow_exception(failure);
    }
};
static_assert(executor<openmp_executor>);

} // namespace seqpar
