#pragma once

/// All of seqpar that needs only the standard library. Optional: comm/mpi.hpp (Boost.MPI), backend/xtensor.hpp (xtensor),
/// score/dropout.hpp (Random123).

#include <seqpar/attention.hpp>
#include <seqpar/comm/metered.hpp>
#include <seqpar/comm/self.hpp>
#include <seqpar/comm/threads.hpp>
#include <seqpar/comm/traced.hpp>
#include <seqpar/core/counted_memory.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/core/time_shares.hpp>
#include <seqpar/core/timeline.hpp>
#include <seqpar/decode.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/kernel/reproducible.hpp>
#include <seqpar/kernel/rope.hpp>
#include <seqpar/kernel/traced_kernel.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/bias.hpp>
#include <seqpar/score/both.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/score/score_function.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/sliding_window.hpp>
#include <seqpar/score/softcap.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/any_strategy.hpp>
#include <seqpar/strategy/grid.hpp>
#include <seqpar/strategy/merge_results.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/tree.hpp>
#include <seqpar/strategy/ulysses.hpp>
#include <seqpar/verify.hpp>
#include <seqpar/version.hpp>
