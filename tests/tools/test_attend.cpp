#include "support/catch.hpp"

#include "run_program.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

using namespace seqpar_test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
using visibility = std::function<bool(long query, long key)>;

struct result {
    array out, lse;
};

/// Attention by its definition, in double: [batch, seq, heads, dim_v] and [batch, heads, seq].
result definition(const inputs& in, double scale, const visibility& sees) {
    const shape_t &q = in.q.shape, &k = in.k.shape, &v = in.v.shape;
    result r{{{q[0], q[1], q[2], v[3]}, std::vector<double>(q[0] * q[1] * q[2] * v[3])},
             {{q[0], q[2], q[1]}, std::vector<double>(q[0] * q[2] * q[1], -infinity)}};
    for (std::size_t b = 0; b < q[0]; ++b)
        for (std::size_t i = 0; i < q[1]; ++i)
            for (std::size_t h = 0; h < q[2]; ++h) {
                const std::size_t g = h / (q[2] / k[2]);
                std::vector<double> weights(k[1], 0);
                double sum = 0;
                for (std::size_t j = 0; j < k[1]; ++j) {
                    if (!sees(static_cast<long>(i), static_cast<long>(j))) continue;
                    double dot = 0;
                    for (std::size_t d = 0; d < q[3]; ++d) dot += in.q(b, i, h, d) * in.k(b, j, g, d);
                    sum += weights[j] = std::exp(scale * dot);
                }
                if (sum == 0) continue;
                r.lse.values[(b * q[2] + h) * q[1] + i] = std::log(sum);
                for (std::size_t d = 0; d < v[3]; ++d) {
                    double value = 0;
                    for (std::size_t j = 0; j < k[1]; ++j) value += weights[j] * in.v(b, j, g, d);
                    r.out.values[((b * q[1] + i) * q[2] + h) * v[3] + d] = value / sum;
                }
            }
    return r;
}

/// Sums of fewer than 100 normal numbers in float: an error of 100 roundings is out of reach, a defect is far beyond.
void check_equal(const array& have, const array& want, double tolerance = 1e-5) {
    REQUIRE(have.shape == want.shape);
    double worst = 0;
    for (std::size_t n = 0; n < have.values.size(); ++n)
        if (have.values[n] != want.values[n]) worst = std::max(worst, std::abs(have.values[n] - want.values[n]));
    CHECK(worst <= tolerance);
}

visibility all = [](long, long) { return true; };

array swap_middle(const array& a) { // [b, s, h, d] <-> [b, h, s, d]
    array r = a;
    std::swap(r.shape[1], r.shape[2]);
    std::size_t n = 0;
    for (std::size_t b = 0; b < r.shape[0]; ++b)
        for (std::size_t x = 0; x < r.shape[1]; ++x)
            for (std::size_t y = 0; y < r.shape[2]; ++y)
                for (std::size_t d = 0; d < r.shape[3]; ++d) r.values[n++] = a(b, y, x, d);
    return r;
}

struct option {
    std::string text;
    double scale;
    visibility sees;
};

} // namespace

TEST_CASE("attend computes what each option says, standing alone") {
    const directory d;
    const long nq = 13, nk = 17;
    const inputs in(2, static_cast<std::size_t>(nq), static_cast<std::size_t>(nk), 4, 2, 9, 5);
    in.write(d);
    const double s = 1 / std::sqrt(9.0);
    const std::vector<option> options{
        {"", s, all},
        {"--ranks 1", s, all},
        {"--strategy ring", s, all},
        {"--strategy ulysses", s, all},
        {"--strategy all-gather", s, all},
        {"--strategy serial", s, all},
        {"--layout contiguous", s, all},
        {"--layout zigzag", s, all},
        {"--layout striped", s, all},
        {"--kernel flash", s, all},
        {"--kernel reference", s, all},
        {"--format bshd", s, all},
        {"--threads-per-rank 2", s, all},
        {"--align top-left", s, all},
        {"--align bottom-right", s, all},
        {"--q-offset 3", s, all},
        {"--causal", s, [](long i, long j) { return j <= i; }},
        {"--causal --align bottom-right", s, [=](long i, long j) { return j <= i + nk - nq; }},
        {"--causal --q-offset 2", s, [](long i, long j) { return j <= i + 2; }},
        {"--causal --q-offset -5", s, [](long i, long j) { return j <= i - 5; }},
        {"--causal --q-offset=-5", s, [](long i, long j) { return j <= i - 5; }},
        {"--window 3,2", s, [](long i, long j) { return j >= i - 3 && j <= i + 2; }},
        {"--window -1,2", s, [](long i, long j) { return j <= i + 2; }},
        {"--window 3,-1", s, [](long i, long j) { return j >= i - 3; }},
        {"--window -1,-1", s, all},
        {"--window 0,0 --align bottom-right", s, [=](long i, long j) { return j == i + nk - nq; }},
        {"--causal --window 2,6", s, [](long i, long j) { return j <= i && j >= i - 2; }},
        {"--scale 0.25", 0.25, all},
        {"--scale -0.5", -0.5, all},
        {"--scale 0", 0, all},
        {"--scale 1e-3", 1e-3, all},
    };
    for (const option& o : options) {
        INFO("attend " << o.text);
        const outcome r = run_program(d, "attend q.npy k.npy v.npy -o o.npy --lse l.npy " + o.text);
        INFO(r.err);
        REQUIRE(r.status == 0);
        const result want = definition(in, o.scale, o.sees);
        const array out = read_npy(d / "o.npy"), lse = read_npy(d / "l.npy");
        CHECK(out.type == "<f4");
        CHECK(!out.fortran);
        check_equal(out, want.out);
        check_equal(lse, want.lse);
        REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o alone.npy " + o.text).status == 0);
        CHECK(read_bytes(d / "alone.npy") == read_bytes(d / "o.npy"));
    }
}

TEST_CASE("attend takes its options in any order") {
    const directory d;
    inputs(1, 21, 21, 4, 2, 8, 8).write(d);
    std::vector<std::string> parts{
        "q.npy k.npy v.npy",   "-o o.npy",           "--causal",      "--strategy ulysses:2/ring",
        "--ranks 4",           "--layout striped",   "--window 9,9",  "--lse l.npy",
        "--scale 0.3",         "--kernel reference", "--format bshd", "--align top-left",
        "--threads-per-rank 2"};
    std::string first;
    for (std::size_t turn = 0; turn < parts.size(); turn += 3) {
        std::string arguments = "attend";
        for (const std::string& part : parts) arguments += " " + part;
        const outcome r = run_program(d, arguments);
        INFO(arguments << "\n" << r.err);
        REQUIRE(r.status == 0);
        if (turn == 0) first = read_bytes(d / "o.npy");
        CHECK(read_bytes(d / "o.npy") == first);
        std::filesystem::remove(d / "o.npy");
        std::rotate(parts.begin(), parts.begin() + 3, parts.end());
    }
}

TEST_CASE("attend computes the same with every strategy, layout and number of ranks") {
    const directory d;
    const inputs in(2, 23, 23, 6, 3, 8, 6);
    in.write(d);
    const result want = definition(in, 1 / std::sqrt(8.0), [](long i, long j) { return j <= i && j >= i - 11; });
    for (const std::string layout : {"contiguous", "zigzag", "striped"})
        for (const std::string run :
             {"ulysses --ranks 2", "ulysses --ranks 3", "all-gather --ranks 4", "all-gather:stream=2 --ranks 7",
              "ring --ranks 4", "ring --ranks 7", "ulysses:2/ring --ranks 4", "ulysses:2/all-gather:stream=1 --ranks 6",
              "ulysses:2/ulysses:2/ring --ranks 8"}) {
            const std::string arguments =
                "attend q.npy k.npy v.npy -o o.npy --lse l.npy --causal --window 11,4 --layout " + layout +
                " --strategy " + run;
            const outcome r = run_program(d, arguments);
            INFO(arguments << "\n" << r.err);
            REQUIRE(r.status == 0);
            check_equal(read_npy(d / "o.npy"), want.out);
            check_equal(read_npy(d / "l.npy"), want.lse);
        }
}

TEST_CASE("attend reads Fortran order, float64 and bhsd, and answers in the type and format") {
    const directory d;
    inputs in(2, 11, 14, 4, 2, 8, 6);
    const result want = definition(in, 1 / std::sqrt(8.0), [](long i, long j) { return j <= i; });
    const std::string ranks = " --causal --ranks 3 --strategy ring --layout zigzag";

    for (const bool wide : {false, true})
        for (const bool fortran : {false, true})
            for (const bool bhsd : {false, true}) {
                inputs as = in;
                for (array* a : {&as.q, &as.k, &as.v}) {
                    if (bhsd) *a = swap_middle(*a);
                    a->type = wide ? "<f8" : "<f4";
                    a->fortran = fortran;
                }
                as.write(d);
                const outcome r = run_program(d, "attend q.npy k.npy v.npy -o o.npy --lse l.npy" + ranks +
                                                     (bhsd ? " --format bhsd" : ""));
                INFO("float" << (wide ? 64 : 32) << (fortran ? ", Fortran" : ", C") << (bhsd ? ", bhsd" : ", bshd")
                             << "\n"
                             << r.err);
                REQUIRE(r.status == 0);
                const array out = read_npy(d / "o.npy"), lse = read_npy(d / "l.npy");
                CHECK(out.type == (wide ? "<f8" : "<f4"));
                CHECK(lse.type == (wide ? "<f8" : "<f4"));
                CHECK(!out.fortran);
                check_equal(bhsd ? swap_middle(out) : out, want.out, wide ? 1e-13 : 1e-5);
                check_equal(lse, want.lse, wide ? 1e-13 : 1e-5);
            }
}

TEST_CASE("empty sequences, and sequences shorter than the ranks, are no error") {
    const directory d;
    for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
        const inputs in(1, n, n, 4, 2, 8, 8);
        in.write(d);
        const result want = definition(in, 1 / std::sqrt(8.0), all);
        for (const std::string run : {"serial --ranks 1", "ulysses --ranks 4", "all-gather --ranks 4", "ring --ranks 4",
                                      "ulysses:2/ring --ranks 4"}) {
            const outcome r = run_program(d, "attend q.npy k.npy v.npy -o o.npy --lse l.npy --strategy " + run);
            INFO(n << " rows, " << run << "\n" << r.err);
            REQUIRE(r.status == 0);
            check_equal(read_npy(d / "o.npy"), want.out);
            check_equal(read_npy(d / "l.npy"), want.lse);
        }
        CHECK(run_program(d, "verify q.npy k.npy v.npy --ranks 4 --strategy ring").status == 0);
        CHECK(run_program(d, "compare q.npy k.npy v.npy --ranks 4").status == 0);
    }
    // queries and no keys: they see nothing
    const inputs blind(1, 5, 0, 4, 2, 8, 8);
    blind.write(d);
    REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o o.npy --lse l.npy --ranks 2 --strategy ring").status == 0);
    for (const double x : read_npy(d / "o.npy").values) CHECK(x == 0);
    for (const double x : read_npy(d / "l.npy").values) CHECK(x == -infinity);
}

TEST_CASE("NaN and infinity are computed through, and reach only the rows that see them") {
    const directory d;
    inputs in(1, 24, 24, 2, 1, 8, 8);
    in.write(d);
    const std::string command = "attend q.npy k.npy v.npy --causal -o ";
    REQUIRE(run_program(d, command + "clean.npy").status == 0);
    in.k.values[10 * 8 + 3] = std::numeric_limits<double>::quiet_NaN(); // key 10
    in.v.values[15 * 8 + 2] = infinity;                                 // value 15
    in.write(d);
    const array clean = read_npy(d / "clean.npy");
    for (const std::string run :
         {"serial", "ring --ranks 3", "ulysses --ranks 2 --layout zigzag", "all-gather --ranks 4"}) {
        REQUIRE(run_program(d, command + "o.npy --strategy " + run).status == 0);
        const array out = read_npy(d / "o.npy");
        INFO(run);
        for (std::size_t i = 0; i < 24; ++i)
            for (std::size_t h = 0; h < 2; ++h)
                for (std::size_t x = 0; x < 8; ++x) {
                    if (i >= 10)
                        CHECK(std::isnan(out(0, i, h, x)));
                    else
                        CHECK(std::abs(out(0, i, h, x) - clean(0, i, h, x)) <= 1e-5);
                }
        CHECK(run_program(d, "verify q.npy k.npy v.npy --causal --strategy " + run).status == 0);
    }
}

TEST_CASE("an output may replace an input, or what was there before") {
    const directory d;
    const inputs in(1, 12, 12, 2, 2, 8, 8);
    in.write(d);
    REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o o.npy").status == 0);
    const std::string want = read_bytes(d / "o.npy");
    REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o v.npy").status == 0);
    CHECK(read_bytes(d / "v.npy") == want);
    CHECK(d.names() == std::set<std::string>{"q.npy", "k.npy", "v.npy", "o.npy"});
    // a refused run leaves what was there
    CHECK(run_program(d, "attend q.npy k.npy none.npy -o o.npy").status == 2);
    CHECK(read_bytes(d / "o.npy") == want);
}

TEST_CASE("embed makes inputs of a text, the same each time") {
    const directory d;
    const std::string text = read_bytes(data_directory + "/alice.txt").substr(0, 300);
    REQUIRE(text.size() == 300);
    write_bytes(d / "text", text);
    REQUIRE(run_program(d, "embed text -o a --heads 4 --kv-heads 2 --head-dim 7").status == 0);
    const array q = read_npy(d / "a/q.npy"), k = read_npy(d / "a/k.npy"), v = read_npy(d / "a/v.npy");
    CHECK(q.shape == shape_t{1, 300, 4, 7});
    CHECK(k.shape == shape_t{1, 300, 2, 7});
    CHECK(v.shape == shape_t{1, 300, 2, 7});
    CHECK(q.type == "<f4");

    REQUIRE(run_program(d, "embed text -o b --heads 4 --kv-heads 2 --head-dim 7 --seed 1").status == 0);
    CHECK(read_bytes(d / "a/q.npy") == read_bytes(d / "b/q.npy"));
    REQUIRE(run_program(d, "embed text -o b --heads 4 --kv-heads 2 --head-dim 7 --seed 2").status == 0);
    CHECK(read_bytes(d / "a/q.npy") != read_bytes(d / "b/q.npy"));

    // one byte has one value; its key is that of position 0, turned: lengths of pairs stay, the last of 7 is not turned
    const std::size_t first = text.find('e'), second = text.find('e', first + 1);
    for (std::size_t h = 0; h < 2; ++h)
        for (std::size_t x = 0; x < 7; ++x) CHECK(v(0, first, h, x) == v(0, second, h, x));
    CHECK(k(0, first, 0, 0) != k(0, second, 0, 0));
    CHECK(k(0, first, 0, 6) == k(0, second, 0, 6));
    for (std::size_t pair = 0; pair < 3; ++pair) {
        const double theta =
            std::pow(10000.0, -2.0 * static_cast<double>(pair) / 7) * static_cast<double>(second - first);
        const double x = k(0, first, 1, 2 * pair), y = k(0, first, 1, 2 * pair + 1);
        CHECK(k(0, second, 1, 2 * pair) == Approx(x * std::cos(theta) - y * std::sin(theta)).margin(1e-5));
        CHECK(k(0, second, 1, 2 * pair + 1) == Approx(x * std::sin(theta) + y * std::cos(theta)).margin(1e-5));
    }

    // scores are spread as scores are: neither all alike nor one above all
    double square = 0;
    for (std::size_t i = 0; i < 300; ++i) {
        double score = 0;
        for (std::size_t x = 0; x < 7; ++x) score += q(0, i, 0, x) * k(0, (i * 7 + 3) % 300, 0, x) / std::sqrt(7.0);
        square += score * score / 300;
    }
    CHECK(std::sqrt(square) > 1);
    CHECK(std::sqrt(square) < 4);

    REQUIRE(run_program(d, "embed text -o c --heads 2 --head-dim 8 --max-tokens 17").status == 0);
    CHECK(read_npy(d / "c/k.npy").shape == shape_t{1, 17, 2, 8});
    write_bytes(d / "empty", "");
    REQUIRE(run_program(d, "embed empty -o c --heads 2 --head-dim 8").status == 0);
    CHECK(read_npy(d / "c/q.npy").shape == shape_t{1, 0, 2, 8});
    CHECK(run_program(d, "attend c/q.npy c/k.npy c/v.npy -o c/o.npy --causal").status == 0);
}
