// The question that seqpar began with: Q and K are split over two processes, so each has only part of every softmax row.
// How can partial softmaxes ever give the serial softmax?
//
// Four tokens, two ranks, two heads, head_dim 1, scale 1. Every number below is computed here, and the answers are checked
// against the exact fractions.
#include <seqpar/seqpar.hpp>

#include <cmath>
#include <cstdio>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

namespace {

using namespace seqpar;

constexpr double exact[2][4] = {{30, 100.0 / 3, 30, 100.0 / 3}, {20, 20, 260.0 / 17, 260.0 / 17}};

struct tokens {
    tensor<double> q{extents{1, 4, 2, 1}}, k{extents{1, 4, 2, 1}}, v{extents{1, 4, 2, 1}};

    tokens() {
        constexpr double query[4][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}},
                         exp_key[4][2] = {{1, 2}, {2, 1}, {3, 2}, {4, 5}},
                         value[4][2] = {{10, 40}, {20, 30}, {30, 20}, {40, 10}};
        for (index_t i = 0; i < 4; ++i)
            for (index_t h = 0; h < 2; ++h) {
                q(0, i, h) = query[i][h];
                k(0, i, h) = std::log(exp_key[i][h]);
                v(0, i, h) = value[i][h];
            }
    }
};

/// Softmax of query 0, head 0 over the keys of one block only: what a rank that has nothing else can compute.
struct block_result {
    double out, lse;
};
block_result over_block(const tokens& t, index_t first) {
    attention attend{span_backend<double>{}, options{.scale = 1.0}};
    const auto r = attend.forward(t.q.view().rows(0, 1), t.k.view().rows(first, 2), t.v.view().rows(first, 2));
    return {r.out(0, 0, 0), r.lse(0, 0, 0)};
}

bool all_right = true;
void line(const std::string& what, double value, bool right) {
    std::printf("  %-62s %9.4f  %s\n", what.c_str(), value, right ? "right" : "wrong");
}

/// Runs a strategy on two ranks; true if all eight outputs are the exact ones.
template <class Strategy>
bool show(const char* what, const Strategy& strategy) {
    const tokens t;
    std::vector<double> out(8);
    std::size_t sent = 0;
    threads::run(2, [&](thread_communicator world) {
        const auto counted = std::make_shared<meter>();
        attention attend{metered<thread_communicator>(world, counted), strategy, span_backend<double>{},
                         options{.scale = 1.0, .lse = false}};
        const index_t mine = 2 * world.rank();
        const auto r = attend.forward(t.q.view().rows(mine, 2), t.k.view().rows(mine, 2), t.v.view().rows(mine, 2));
        for (index_t i = 0; i < 2; ++i)
            for (index_t h = 0; h < 2; ++h) out[static_cast<std::size_t>(4 * h + mine + i)] = r.out(0, i, h);
        if (world.rank() == 0) sent = static_cast<std::size_t>(counted->payload().bytes) / sizeof(double);
    });
    bool right = true;
    for (std::size_t n = 0; n < 8; ++n) right = right && std::abs(out[n] - exact[n / 4][n % 4]) < 1e-12;
    std::printf("  %-35s %8.4f %8.4f %8.4f %8.4f | %8.4f %8.4f %8.4f %8.4f  %2zu  %s\n", what, out[0], out[1], out[2],
                out[3], out[4], out[5], out[6], out[7], sent, right ? "right" : "wrong");
    all_right = all_right && right;
    return right;
}

} // namespace

int main() {
    tokens t;
    const block_result a = over_block(t, 0), b = over_block(t, 2);

    std::printf("Query 0, head 0. The serial softmax gives 30. Each rank has half of the keys:\n");
    line("rank 0: softmax over keys 0, 1", a.out, false);
    line("rank 1: softmax over keys 2, 3", b.out, false);
    line("an all-reduce that adds the outputs", a.out + b.out, false);
    line("an all-reduce that averages them", (a.out + b.out) / 2, false);

    tokens shifted; // ln 2 more on every key of rank 1: both partial outputs stay as they are
    for (const index_t i : {2, 3}) shifted.k(0, i, 0) += std::numbers::ln2;
    const block_result b_shifted = over_block(shifted, 2);
    attention serially{span_backend<double>{}, options{.scale = 1.0}};
    const double truth = serially.forward(shifted.q, shifted.k, shifted.v).out(0, 0, 0);
    std::printf("\nNothing recovers it from the two outputs. Add ln 2 to the keys of rank 1:\n");
    line("rank 1's output stays", b_shifted.out, std::abs(b_shifted.out - b.out) < 1e-12);
    line("and the right answer moves, to 550/17", truth, std::abs(truth - 550.0 / 17) < 1e-12);
    all_right = all_right && std::abs(b_shifted.out - b.out) < 1e-12 && std::abs(truth - 550.0 / 17) < 1e-12;

    partial<double> merged({1, 1, 1, 1}); // out and lse are a softmax partial: merging them is associative
    for (const block_result& r : {a, b}) merged.fold(0, 0, 0, r.lse * std::numbers::log2e, 1, &r.out);
    tensor<double> out({1, 1, 1, 1});
    merged.finish(out.view(), {});
    std::printf("\nIt needs one number more a row, the log-sum-exp. Then an all-reduce is right:\n");
    line("merge of (out, lse) of both ranks: (3 * 50/3 + 7 * 250/7) / 10", out(0, 0, 0),
         std::abs(out(0, 0, 0) - 30) < 1e-12);
    all_right = all_right && std::abs(out(0, 0, 0) - 30) < 1e-12;

    std::printf("\nAll eight outputs, and the elements that rank 0 sends:\n  %-35s %-35s | %-35s sent\n", "", "head 0",
                "head 1");
    show("gather K and V", all_gather{});
    show("head-parallel (DeepSpeed-Ulysses)", ulysses<>{});
    show("ring: merge as blocks arrive", ring{});
    show("gather K, stream V (the question)", all_gather{1});
    std::printf("\nHead-parallel: rank h holds all four tokens of head h, so each softmax row is whole on one rank.\n"
                "Gathered K: each rank's rows of scores are whole, so V may come in blocks. The exact answers are\n"
                "30, 100/3, 30, 100/3 and 20, 20, 260/17, 260/17. No rank ever holds an [N, N] array.\n");
    return all_right ? 0 : 1;
}
