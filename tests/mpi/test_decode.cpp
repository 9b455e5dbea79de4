/// Decoding over MPI: every step equal to a full recomputation, the same bits on every rank, the counted cost the predicted.
#include <support/catch.hpp>

#include <decode/decode_case.hpp>

#include <seqpar/comm/mpi.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/layout/striped.hpp>
#include <seqpar/layout/zigzag.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/sliding_window.hpp>
#include <seqpar/score/softcap.hpp>

using namespace seqpar;
using namespace seqpar::testing;

TEST_CASE("a cache over MPI matches a recomputation at every step") {
    const mpi_communicator world{boost::mpi::communicator()};
    const any_score plain(causal{} & sliding_window{30, 0}),
        changed = any_score(causal{}) & softcap(2) & alibi({0.5, 0.25, 0.1, 0}) & sink({1, 0, -1, 2});
    for (const any_layout& layout : {any_layout(contiguous{}), any_layout(zigzag{}), any_layout(striped{})})
        for (const any_score& s : {plain, changed}) {
            CHECK(trouble_with<float>(world, flash{}, decode_case{{2, 2, 8, 5}, 4, layout, s, one_by_one(2, 60)}) ==
                  "");
            const std::vector<growth> chunks{{{17, 0}}, {{1, 9}}, {{5, 1}, 2}, {{0, 40}, 3}, {{1, 1}}};
            CHECK(trouble_with<double>(world, flash{}, decode_case{{2, 2, 4, 4}, 4, layout, s, chunks}) == "");
        }
}
