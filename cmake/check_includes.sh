#!/usr/bin/env bash
# check_includes.sh <root of the repository>
#
# Holds the sources to the directions of their includes. Exit status 0: clean; 1: violations, one a line.
#   - Includes run downwards through the rooms (levels below); a room does not include its sibling.
#   - No circle among the headers of a room.
#   - Inside include/, a header of ours is included as <seqpar/...>, and is there.
#   - A third party's header stands in its one room.
#   - The umbrella, and whatever it includes, needs the standard library only.
set -euo pipefail
export LC_ALL=C
cd "${1:?usage: check_includes.sh <root of the repository>}"

mapfile -t files < <(find include tools tests bench examples -type f \( -name '*.hpp' -o -name '*.cpp' -o -name '*.h' \) 2>/dev/null | sort)
if [ "${#files[@]}" -eq 0 ]; then
    echo "check_includes: no sources under $PWD" >&2
    exit 1
fi

violations=$(awk '
function fail(text) { print FILENAME ":" FNR ": " text }

# The room of a header, given as seqpar/...: a directory, or a header at the top, which is a room of its own. The simulator
# is one too, since it is a communicator of a machine that plan/ describes.
function room_of(path, parts) {
    if (path ~ /^seqpar\/comm\/simgrid[.\/]/) return "comm/simgrid"
    split(path, parts, "/")
    return parts[2]
}

function may(pattern) { return FILENAME ~ pattern }

BEGIN {
    level["version.hpp"] = 0; level["core"] = 1
    level["layout"] = 2; level["score"] = 2; level["comm"] = 2; level["backend"] = 2; level["plan"] = 2
    level["comm/simgrid"] = 2.5
    level["kernel"] = 3; level["strategy"] = 4
    level["planning"] = 5; level["attention"] = 5; level["attention.hpp"] = 6; level["decode"] = 6; level["decode.hpp"] = 7; level["verify"] = 7; level["verify.hpp"] = 8; level["seqpar.hpp"] = 9
    optional["seqpar/comm/mpi.hpp"]; optional["seqpar/comm/simgrid.hpp"]
    optional["seqpar/backend/xtensor.hpp"]; optional["seqpar/score/dropout.hpp"]
    optional["seqpar/core/openmp_executor.hpp"]; optional["seqpar/planning/simulate.hpp"]
    for (i = 1; i < ARGC; ++i) {
        exists[ARGV[i]]
        if (ARGV[i] ~ /^include\/seqpar\/comm\/simgrid\//) optional[substr(ARGV[i], 9)]
    }
}

# gnu::target belongs to the kernel; comments may speak of it.
/gnu::target|__attribute__ *\(\(.*target *\(/ && !/^ *\/\// && !may("^include/seqpar/kernel/flash/") && !may("^(tests|bench)/") {
    fail("an instruction set is named outside include/seqpar/kernel/flash/")
}

!/^[ \t]*#[ \t]*include[ \t]*[<"]/ { next }

{
    line = $0
    sub(/^[ \t]*#[ \t]*include[ \t]*/, "", line)
    quoted = substr(line, 1, 1) == "\""
    header = substr(line, 2)
    sub(/[>"].*/, "", header)
    in_library = FILENAME ~ /^include\//

    if (header ~ /^seqpar\//) {
        if (quoted && in_library) fail("write <" header ">, not \"" header "\"")
        if (!(("include/" header) in exists)) fail("<" header "> does not exist")
        if (in_library) {
            self = FILENAME; sub(/^include\//, "", self)
            from = room_of(self); to = room_of(header)
            if (!(from in level)) {
                if (!(from in unknown)) fail("unknown room " from ": give it a level in cmake/check_includes.sh")
                unknown[from]
            } else if (!(to in level)) {
                fail("<" header "> is in the unknown room " to)
            } else if (from != to && level[to] > level[from]) {
                fail("<" header "> is upward: " from " may not include " to)
            } else if (from != to && level[to] == level[from]) {
                fail("<" header "> is sideways: " from " may not include its sibling " to)
            }
            if (header in optional && self != header && !(from == "comm/simgrid" && to == from) && !(self in optional && header == "seqpar/comm/simgrid.hpp")) fail("<" header "> needs a third party: only a user includes it")
        }
        next
    }
    if (quoted && in_library) fail("write <seqpar/...>, not \"" header "\"")

    if (header ~ /^(boost\/|mpi\.h$)/ && !may("^include/seqpar/comm/mpi\\.hpp$") && in_library)
        fail("<" header "> belongs to include/seqpar/comm/mpi.hpp alone")
    if (header ~ /^(xtensor|xtl|xtensor-[a-z]+)\// && !may("^include/seqpar/backend/xtensor\\.hpp$") && in_library)
        fail("<" header "> belongs to include/seqpar/backend/xtensor.hpp alone")
    if (header ~ /^(CLI|fmt|nlohmann)\// && !may("^(tools|tests)/") && !(header ~ /^nlohmann\// && may("^bench/worker")))
        fail("<" header "> belongs to tools/ and tests/ alone")
    if (header ~ /^Random123\// && !may("^include/seqpar/score/dropout\\.hpp$"))
        fail("<" header "> belongs to include/seqpar/score/dropout.hpp alone")
    if (header ~ /^omp\.h$/ && !may("^include/seqpar/core/openmp_executor\\.hpp$"))
        fail("<" header "> belongs to include/seqpar/core/openmp_executor.hpp alone")
    if (header ~ /^(simgrid|xbt)\// && !may("^include/seqpar/comm/simgrid(\\.hpp$|/)"))
        fail("<" header "> belongs to include/seqpar/comm/simgrid.hpp and include/seqpar/comm/simgrid/ alone")
    if (header ~ /^(([a-z]*mm|x86|x86gpr|arm_neon|arm_sve|avx.*)intrin|arm_neon|arm_sve|immintrin|cpuid)\.h$/ && !may("^include/seqpar/kernel/flash/"))
        fail("<" header "> belongs to include/seqpar/kernel/flash/ alone")
    if (header ~ /^catch2\// && !may("^tests/support/catch[a-z_]*\\.(hpp|cpp)$"))
        fail("<" header "> belongs to tests/support/catch.hpp alone")
    if (header ~ /^benchmark\// && !may("^bench/"))
        fail("<" header "> belongs to bench/ alone")
}
' "${files[@]}")

# tsort names the members of a circle on stderr, and prints the order, which nobody needs.
circles=$(
    {
        grep -HoE '^[[:space:]]*#[[:space:]]*include[[:space:]]*<seqpar/[^>]+>' "${files[@]}" 2>/dev/null || true
    } | sed -nE 's|^include/(seqpar/[^:]+):.*<(seqpar/[^>]+)>$|\1 \2|p' | { tsort 2>&1 >/dev/null || true; } |
        sed -nE 's|^tsort: (seqpar/.*)$|include/\1: is part of a circle of includes|p'
)
# A header that includes itself is an edge that tsort takes for a vertex.
selves=$(
    for file in "${files[@]}"; do
        case $file in
        include/*) if grep -qE "^[[:space:]]*#[[:space:]]*include[[:space:]]*<${file#include/}>" "$file"; then
            echo "$file: includes itself"
        fi ;;
        esac
    done
)

all=$(printf '%s\n%s\n%s\n' "$violations" "$circles" "$selves" | sed '/^$/d')
if [ -n "$all" ]; then
    printf '%s\n' "$all"
    printf 'check_includes: %d violations in %d files\n' "$(printf '%s\n' "$all" | wc -l)" "${#files[@]}" >&2
    exit 1
fi
printf 'check_includes: %d files, no violation\n' "${#files[@]}"
