/// @file
/// flash where a row has several chunks of keys and its maximum moves by hundreds: quick to build and to run.

#include "kernel/attention_case.hpp"
#include "support/catch.hpp"

#include <seqpar/score/causal.hpp>
#include <seqpar/score/full.hpp>

using namespace kernel_test;

TEMPLATE_TEST_CASE("few and many rows over several chunks of keys, with scores of hundreds", "", float, double) {
    for (const instruction_set set : targets())
        for (const index_t rows : {1, 29})
            for (const any_score& score : {any_score(full{}), any_score(causal{alignment::bottom_right()})}) {
                INFO(to_string(set) << ' ' << rows << ' ' << score.name());
                const sizes n{1, rows, 9001, 2, 1, 8, 5}; // three chunks, the last panel with one key
                const attention_input<TestType> in(n, 35, memory_order::bshd, 12);
                const context how = in.how();
                definition exact(how, in, score, 60);
                std::string why;
                const bool accepted = exact.accepts(attend(flash{set}, how, in, score), why);
                INFO(why);
                CHECK(accepted);
                CHECK(exact.worst > 0);
            }
}

TEST_CASE("the values of every chunk reach the row") {
    // Scores are all equal, and the value of a key is its number: out is their mean.
    for (const instruction_set set : targets())
        for (const index_t rows : {1, 29}) {
            INFO(to_string(set) << ' ' << rows);
            const sizes n{1, rows, 9001, 1, 1, 4, 1};
            const attention_input<double> in(n, 36, memory_order::bshd, 0);
            for (index_t j = 0; j < n.keys; ++j) in.v(0, j, 0, 0) = static_cast<double>(j);
            const auto result = attend(flash{set}, in.how(), in, full{});
            tensor<double> out(n.out());
            result.finish(out.view(), tensor_view<double>{});
            for (index_t i = 0; i < rows; ++i) CHECK(std::abs(out(0, i, 0, 0) - 4500) < 1e-9);
        }
}
