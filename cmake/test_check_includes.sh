#!/usr/bin/env bash
# Plants one violation at a time in a small tree and holds check_includes.sh to finding it, and to passing the clean tree.
set -euo pipefail
check="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/check_includes.sh"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

plant() { # <file> <line>...
    mkdir -p "$tree/$(dirname "$1")"
    local file=$1
    shift
    printf '%s\n' '#pragma once' "$@" >"$tree/$file"
}

clean_tree() {
    rm -rf "${tree:?}"/*
    plant include/seqpar/version.hpp
    plant include/seqpar/core/tensor.hpp '#include <seqpar/version.hpp>' '#include <vector>'
    plant include/seqpar/core/block.hpp '#include <seqpar/core/tensor.hpp>'
    plant include/seqpar/layout/zigzag.hpp '#include <seqpar/core/block.hpp>'
    plant include/seqpar/score/causal.hpp '#include <seqpar/core/block.hpp>'
    plant include/seqpar/comm/mpi.hpp '#include <boost/mpi/communicator.hpp>' '#include <mpi.h>'
    plant include/seqpar/comm/threads.hpp '#include <seqpar/core/tensor.hpp>'
    plant include/seqpar/plan/machine.hpp '#include <seqpar/core/tensor.hpp>'
    plant include/seqpar/comm/simgrid/platform.hpp '#include <simgrid/s4u.hpp>' '#include <seqpar/plan/machine.hpp>'
    plant include/seqpar/comm/simgrid/clock.hpp '#include <seqpar/comm/simgrid/platform.hpp>' '#include <xbt/log.h>'
    plant include/seqpar/comm/simgrid.hpp '#include <simgrid/s4u.hpp>' '#include <seqpar/comm/simgrid/clock.hpp>' \
        '#include <seqpar/comm/threads.hpp>'
    plant include/seqpar/backend/xtensor.hpp '#include <xtensor/xtensor.hpp>' '#include <xtl/xsequence.hpp>'
    plant include/seqpar/kernel/flash/tile.hpp '#include <immintrin.h>' '[[gnu::target("fma")]] void f();'
    plant include/seqpar/kernel/flash.hpp '#include <seqpar/kernel/flash/tile.hpp>' '#include <seqpar/score/causal.hpp>'
    plant include/seqpar/strategy/ring.hpp '#include <seqpar/kernel/flash.hpp>' '#include <seqpar/comm/threads.hpp>'
    plant include/seqpar/attention.hpp '#include <seqpar/strategy/ring.hpp>'
    plant include/seqpar/verify.hpp '#include <seqpar/attention.hpp>'
    plant include/seqpar/seqpar.hpp '#include <seqpar/verify.hpp>' '// gnu::target is spoken of, not used'
    plant tools/seqpar/main.cpp '#include <CLI/CLI.hpp>' '#include <seqpar/seqpar.hpp>' '#include "options.hpp"'
    plant tests/mpi/test_ring.cpp '#include <seqpar/comm/mpi.hpp>' '#include "support/catch.hpp"'
    plant tests/support/catch.hpp '#include <catch2/catch.hpp>'
    plant bench/bench_kernel.cpp '#include <benchmark/benchmark.h>'
    plant bench/worker/answers.hpp '#include <nlohmann/json.hpp>'
}

expect() { # <words of the message> <file> <line>...
    local wanted=$1 output
    shift
    clean_tree
    plant "$@"
    if output=$(bash "$check" "$tree" 2>&1); then
        echo "NOT FOUND: $1: $2"
        failures=$((failures + 1))
    elif ! grep -qF "$1:" <<<"$output" || ! grep -qF "$wanted" <<<"$output"; then
        printf 'found, but not as "%s":\n%s\n' "$wanted" "$output"
        failures=$((failures + 1))
    fi
}

clean_tree
if ! output=$(bash "$check" "$tree" 2>&1); then
    printf 'the clean tree is refused:\n%s\n' "$output"
    failures=$((failures + 1))
fi

expect 'upward: core may not include kernel' include/seqpar/core/up.hpp '#include <seqpar/kernel/flash.hpp>'
expect 'upward: kernel may not include strategy' include/seqpar/kernel/up.hpp '  #  include <seqpar/strategy/ring.hpp>'
expect 'upward: strategy may not include attention.hpp' include/seqpar/strategy/up.hpp '#include <seqpar/attention.hpp>'
expect 'upward: attention.hpp may not include verify.hpp' include/seqpar/attention.hpp '#include <seqpar/verify.hpp>'
expect 'sideways: score may not include its sibling layout' include/seqpar/score/side.hpp '#include <seqpar/layout/zigzag.hpp>'
expect 'sideways: comm may not include its sibling backend' include/seqpar/comm/side.hpp '#include <seqpar/backend/xtensor.hpp>'
expect 'unknown room attic' include/seqpar/attic/box.hpp '#include <seqpar/core/tensor.hpp>'
expect 'unknown room extra.hpp' include/seqpar/extra.hpp '#include <seqpar/core/tensor.hpp>'
expect 'is part of a circle' include/seqpar/core/tensor.hpp '#include <seqpar/core/block.hpp>'
expect 'includes itself' include/seqpar/core/tensor.hpp '#include <seqpar/core/tensor.hpp>'
expect 'does not exist' include/seqpar/core/gone.hpp '#include <seqpar/core/tenser.hpp>'
expect 'write <seqpar/core/tensor.hpp>' include/seqpar/core/quoted.hpp '#include "seqpar/core/tensor.hpp"'
expect 'write <seqpar/...>' include/seqpar/core/quoted.hpp '#include "tensor.hpp"'
expect 'needs a third party' include/seqpar/seqpar.hpp '#include <seqpar/comm/mpi.hpp>'
expect 'needs a third party' include/seqpar/strategy/opt.hpp '#include <seqpar/backend/xtensor.hpp>'
expect 'comm/mpi.hpp alone' include/seqpar/comm/raw.hpp '#include <mpi.h>'
expect 'comm/mpi.hpp alone' include/seqpar/comm/raw.hpp '#include <boost/mpi.hpp>'
expect 'backend/xtensor.hpp alone' include/seqpar/core/xt.hpp '#include <xtensor/xarray.hpp>'
expect 'backend/xtensor.hpp alone' include/seqpar/core/xt.hpp '#include <xtl/xspan.hpp>'
expect 'tools/ and tests/ alone' include/seqpar/core/print.hpp '#include <fmt/format.h>'
expect 'tools/ and tests/ alone' bench/bench_more.cpp '#include <nlohmann/json.hpp>'
expect 'tools/ and tests/ alone' bench/worker/more.hpp '#include <fmt/format.h>'
expect 'tools/ and tests/ alone' examples/first.cpp '#include <nlohmann/json.hpp>'
expect 'tools/ and tests/ alone' bench/bench_cli.cpp '#include <CLI/CLI.hpp>'
expect 'score/dropout.hpp alone' include/seqpar/score/random.hpp '#include <Random123/philox.h>'
expect 'comm/simgrid/ alone' include/seqpar/comm/sim.hpp '#include <simgrid/s4u.hpp>'
expect 'comm/simgrid/ alone' include/seqpar/comm/simgrid_more.hpp '#include <simgrid/s4u.hpp>'
expect 'comm/simgrid/ alone' include/seqpar/plan/network.hpp '#include <xbt/log.h>'
expect 'needs a third party' include/seqpar/seqpar.hpp '#include <seqpar/comm/simgrid.hpp>'
expect 'needs a third party' include/seqpar/seqpar.hpp '#include <seqpar/comm/simgrid/platform.hpp>'
expect 'needs a third party' include/seqpar/comm/simgrid/clock.hpp '#include <seqpar/comm/mpi.hpp>'
expect 'upward: comm may not include comm/simgrid' include/seqpar/comm/sim.hpp '#include <seqpar/comm/simgrid/platform.hpp>'
expect 'upward: plan may not include comm/simgrid' include/seqpar/plan/time.hpp '#include <seqpar/comm/simgrid.hpp>'
expect 'upward: comm/simgrid may not include strategy' include/seqpar/comm/simgrid/run.hpp '#include <seqpar/strategy/ring.hpp>'
expect 'sideways: comm may not include its sibling plan' include/seqpar/comm/side.hpp '#include <seqpar/plan/machine.hpp>'
expect 'kernel/flash/ alone' include/seqpar/kernel/simd.hpp '#include <immintrin.h>'
expect 'kernel/flash/ alone' include/seqpar/core/simd.hpp '#include <arm_neon.h>'
expect 'instruction set is named' include/seqpar/kernel/simd.hpp '[[gnu::target("avx2")]] void f();'
expect 'instruction set is named' include/seqpar/core/simd.hpp '__attribute__((target("avx2"))) void f();'
expect 'support/catch.hpp alone' tests/core/test_tensor.cpp '#include <catch2/catch.hpp>'
expect 'bench/ alone' include/seqpar/plan/time.hpp '#include <benchmark/benchmark.h>'

if [ "$failures" -ne 0 ]; then
    echo "check_includes self-test: $failures failures" >&2
    exit 1
fi
echo 'check_includes self-test: every planted violation is found, the clean tree passes'
