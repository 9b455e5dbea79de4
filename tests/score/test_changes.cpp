/// Scores that change values, alone and composed, forward and backward, against an oracle that knows nothing of them.
#include <support/catch.hpp>
#include <support/changing_scores.hpp>
#include <support/gradient_case.hpp>

#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/dropout.hpp>
#include <seqpar/strategy/serial.hpp>

using namespace seqpar;
using namespace seqpar::testing;

namespace {

const std::vector<attention_shape> shapes{{1, 23, 23, 3, 3, 8, 8}, {2, 21, 34, 4, 2, 5, 7}, {1, 30, 22, 6, 1, 16, 3}};

template <class T, class Kernel>
void check(const Kernel& kernel) {
    for (const attention_shape& shape : shapes)
        for (const changing_score& s : changing_scores(shape))
            for (const bool with_dlse : {false, true}) {
                const gradient_case<T> c(shape, any_layout(contiguous{}), s.library, with_dlse, 1, s.oracle);
                CHECK(c.trouble_with(self_communicator{}, serial{}, kernel, saving::resend) == "");
            }
}

} // namespace

TEMPLATE_TEST_CASE("reference computes what the scores say", "", float, double, bfloat16) {
    check<TestType>(reference{});
}
TEMPLATE_TEST_CASE("flash computes what the scores say", "", float, double, bfloat16) { check<TestType>(flash{}); }
