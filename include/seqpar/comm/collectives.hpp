#pragma once

/// seqpar::collective: the collective operations on any communicator, one header each.

#include <seqpar/comm/collectives/all_gather.hpp>
#include <seqpar/comm/collectives/all_gather_doubling.hpp>
#include <seqpar/comm/collectives/all_gather_ring.hpp>
#include <seqpar/comm/collectives/all_reduce_doubling.hpp>
#include <seqpar/comm/collectives/all_to_all.hpp>
#include <seqpar/comm/collectives/barrier.hpp>
#include <seqpar/comm/collectives/reduce_scatter.hpp>
#include <seqpar/comm/collectives/roll_call.hpp>
