/// The program with backward and with the scores that change values: what it writes is right by finite differences, the same
/// for every strategy, and verified.
#include "support/catch.hpp"

#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

using namespace seqpar_test;

namespace {

/// Uneven N, grouped heads, packed documents with an empty one and padding; and arrays for all other options.
struct packed_inputs : inputs {
    static constexpr std::size_t n = 45, heads = 4;
    array dout = random_array({1, n, heads, 6}, 4), dlse = random_array({1, heads, n}, 5),
          bias = random_array({1, heads, n, n}, 6);

    explicit packed_inputs(const directory& to) : inputs(1, n, n, heads, 2, 8, 6) {
        write(to);
        write_npy(to / "dout.npy", dout);
        write_npy(to / "dlse.npy", dlse);
        write_npy(to / "cu.npy", {{5}, {0, 11, 11, 30, 42}, "<i4"});
        write_npy(to / "cu64.npy", {{5}, {0, 11, 11, 30, 42}, "<i8"});
        write_npy(to / "slopes.npy", {{heads}, {0.5, 0.25, 0.125, 0.0625}});
        write_npy(to / "sinks.npy", {{heads}, {0.5, -1, 2, 0}, "<f8"});
        write_npy(to / "bias.npy", bias);
        array mask{{1, 1, n, n}, std::vector<double>(n * n), "|b1"};
        for (std::size_t i = 0; i < n * n; ++i) mask.values[i] = i * 7 % 5 != 0;
        write_npy(to / "mask.npy", mask);
    }
};

constexpr const char* everything = " --documents cu.npy --causal --window 15,0 --softcap 4 --alibi slopes.npy --sinks "
                                   "sinks.npy --bias bias.npy --dropout 0.2 --seed 9";

[[nodiscard]] double furthest(const array& a, const array& b) {
    REQUIRE(a.shape == b.shape);
    double worst = 0;
    for (std::size_t i = 0; i < a.values.size(); ++i) worst = std::max(worst, std::abs(a.values[i] - b.values[i]));
    return worst;
}

} // namespace

TEST_CASE("compare verifies every strategy, forward and backward, on a packed, causal, windowed, softcapped input") {
    const directory d;
    const packed_inputs in(d);
    for (const std::string& options :
         {std::string(" --documents cu64.npy --causal --window 15,0 --softcap 4"),
          everything + std::string(" --save keep"), everything + std::string(" --dlse dlse.npy --storage bfloat16"),
          std::string(" --documents-q cu.npy --documents-k cu.npy --alibi auto --bias mask.npy --storage double")}) {
        const outcome r = run_program(
            d, "compare q.npy k.npy v.npy --dout dout.npy --ranks 4 --layout zigzag --json t.json" + options);
        INFO(options << "\n" << r.out << r.err);
        REQUIRE(r.status == 0);
        CHECK(contains(r.out, "all 9 schemes verified"));
        const auto table = nlohmann::json::parse(read_bytes(d / "t.json"));
        for (const auto& row : table["rows"]) {
            INFO(row.dump(1));
            CHECK(row["verified"] == true);
            const auto& back = row["backward"];
            for (const auto& pass : {row, back})
                for (const char* what : {"bytes_sent", "messages_sent", "peak_extra_memory"})
                    CHECK(pass[what]["equal_on_every_rank"] == true);
            CHECK(back["verified"] == true);
            CHECK(back["share_of_bound"] > 0);
            CHECK(back["gradients"]["dk"]["judged"] == back["gradients"]["dk"]["elements"]);
            CHECK(back["gradients"].contains("dsinks") == contains(options, "sinks"));
            CHECK(back["gradients"].contains("dslopes") == contains(options, "alibi"));
        }
    }
}

TEST_CASE("gradients are those of finite differences, and the same for every strategy") {
    const directory d;
    const packed_inputs in(d);
    const std::string attend =
        "attend q.npy k.npy v.npy -o o.npy --lse l.npy --kernel reference --storage double" + std::string(everything);
    const std::string backward = " --dout dout.npy --dlse dlse.npy --grads ";
    const outcome r = run_program(d, attend + backward + "g");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    CHECK(contains(r.out, "backward"));

    // of sum(out dout) + sum(lse dlse), by a step in one input
    const auto loss = [&] {
        REQUIRE(run_program(d, attend).status == 0);
        const array out = read_npy(d / "o.npy"), lse = read_npy(d / "l.npy");
        double sum = 0;
        for (std::size_t i = 0; i < out.values.size(); ++i) sum += out.values[i] * in.dout.values[i];
        for (std::size_t i = 0; i < lse.values.size(); ++i)
            if (std::isfinite(lse.values[i])) sum += lse.values[i] * in.dlse.values[i];
        return sum;
    };
    const auto check = [&](const std::string& name, const array& x, std::size_t at, double step) {
        array up = x, down = x;
        up.type = down.type = "<f8";
        up.values[at] += step, down.values[at] -= step;
        const std::string whole = read_bytes(d / (name + ".npy"));
        write_npy(d / (name + ".npy"), up);
        const double above = loss();
        write_npy(d / (name + ".npy"), down);
        const double below = loss();
        write_bytes(d / (name + ".npy"), whole);
        const double found = read_npy(d / ("g/d" + name + ".npy")).values.at(at);
        INFO(name << '[' << at << ']');
        CHECK(std::abs(found) > 1e-3);
        CHECK((above - below) / (2 * step) == Approx(found).epsilon(1e-5).margin(1e-7));
    };
    check("slopes", {{4}, {0.5, 0.25, 0.125, 0.0625}}, 1, 1e-4);
    check("sinks", {{4}, {0.5, -1, 2, 0}}, 2, 1e-4);

    for (const char* options :
         {"--strategy ring:pass=q --ranks 3", "--strategy ulysses:2/all-gather:doubling --ranks 4 --save keep",
          "--strategy grid:2x2 --ranks 4 --layout striped", "--strategy tree --ranks 5 --layout zigzag"}) {
        INFO(options);
        REQUIRE(run_program(d, attend + backward + "h " + options).status == 0);
        for (const char* name : {"dq", "dk", "dv", "dsinks", "dslopes"}) {
            const array want = read_npy(d / ("g/" + std::string(name) + ".npy"));
            CHECK(furthest(read_npy(d / ("h/" + std::string(name) + ".npy")), want) < 1e-12);
            CHECK(furthest(want, {want.shape, std::vector<double>(want.values.size())}) > 0.01);
        }
    }
}

TEST_CASE("bfloat16 is written as float32, and bhsd gradients are bhsd") {
    const directory d;
    const packed_inputs in(d);
    REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o o.npy --dout dout.npy --grads g --storage bfloat16").status ==
            0);
    CHECK(read_npy(d / "o.npy").type == "<f4");
    CHECK(read_npy(d / "g/dk.npy").shape == in.k.shape);
    REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o f.npy --dout dout.npy --grads h").status == 0);
    const double off = furthest(read_npy(d / "g/dk.npy"), read_npy(d / "h/dk.npy"));
    CHECK(off > 1e-4); // it was rounded
    CHECK(off < 0.3);
    CHECK(d.names() == std::set<std::string>{"q.npy", "k.npy", "v.npy", "dout.npy", "dlse.npy", "cu.npy", "cu64.npy",
                                             "slopes.npy", "sinks.npy", "bias.npy", "mask.npy", "o.npy", "f.npy", "g",
                                             "h"});
}

TEST_CASE("options of scores and of backward that make no sense are refused before anything is written") {
    const directory d;
    const packed_inputs in(d);
    write_npy(d / "falls.npy", {{3}, {0, 30, 20}, "<i4"});
    write_npy(d / "long.npy", {{2}, {0, 46}, "<i4"});
    write_npy(d / "three.npy", {{3}, {1, 2, 3}});
    const auto refused = [&](const std::string& options, const std::vector<std::string>& parts) {
        const auto before = d.names();
        const std::string strategy = contains(options, "--strategy") ? "" : "--strategy ring ";
        const outcome r = run_program(d, "attend q.npy k.npy v.npy -o o.npy --ranks 3 " + strategy + options);
        INFO(options << "\n" << r.out << r.err);
        CHECK(r.status == 2);
        for (const std::string& part : parts) CHECK(contains(r.err, part));
        CHECK(d.names() == before);
    };
    refused("--softcap -3", {"--softcap", "-3", "above 0"});
    refused("--softcap x", {"--softcap 'x'"});
    refused("--dropout 1", {"--dropout", "below 1"});
    refused("--dropout -0.1", {"--dropout", "-0.1"});
    refused("--seed 3", {"--seed 3", "--dropout"});
    refused("--alibi three.npy", {"three.npy", "3 slopes", "4 heads"});
    refused("--alibi q.npy", {"q.npy", "4 extents", "[heads]"});
    refused("--alibi cu.npy", {"cu.npy", "'<i4'", "float32"});
    refused("--sinks three.npy", {"three.npy", "3 sinks", "4 heads"});
    refused("--documents falls.npy", {"falls.npy", "falls from 30 to 20"});
    refused("--documents long.npy", {"long.npy", "ends at 46", "45 rows"});
    refused("--documents slopes.npy", {"slopes.npy", "'<f4'", "int32", "int64"});
    refused("--documents-q cu.npy", {"--documents-q", "--documents-k"});
    refused("--documents cu.npy --documents-q cu.npy", {"--documents is of Q and of K"});
    refused("--documents none.npy", {"none.npy", "no such file"});
    refused("--bias q.npy", {"q.npy", "[1, 45, 4, 8]", "[1, 4 or 1, 45, 45]"});
    refused("--bias sinks.npy", {"sinks.npy", "1 extent", "4 are needed"});
    write_bytes(d / "odd.npy",
                npy_start(dictionary_of("|b1", false, {1, 1, 45, 45})) + "\1\7" + std::string(2023, '\1'));
    refused("--bias odd.npy", {"odd.npy", "element 1 is the byte 7", "0 or 1"});
    refused("--storage half", {"--storage 'half'", "float, double, bfloat16"});
    refused("--dout dout.npy", {"--grads"});
    refused("--grads g", {"--grads g", "--dout"});
    refused("--dlse dlse.npy", {"--dlse", "--dout"});
    refused("--save keep", {"--save keep", "--dout"});
    refused("--dout q.npy --grads g", {"q.npy", "head_dim 8", "head_dim 6", "the shape of the output"});
    refused("--dout dout.npy --grads g --dlse dout.npy", {"dout.npy", "4 extents", "3 are needed"});
    refused("--dout dout.npy --grads q.npy", {"--grads q.npy", "directory"});
    refused("--dout dout.npy --grads g --save al", {"--save 'al'", "resend, keep"});
    for (const char* wrong : {"ring:both", "ring:double=0", "ring:bidirectional:pass=q", "all-gather:dubling", "grid:2",
                              "grid:2x2", "tree:1", "tree/ring"})
        refused(std::string("--strategy ") + wrong, {wrong});
    refused("--strategy ring:double=2", {"inner rings of 2", "3 ranks", "1, 3"});
}
