/// seqpar verify --against: arrays that another program has made are read, judged, and what is off is said where it is.
#include "support/catch.hpp"

#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace seqpar_test;

namespace {

constexpr std::size_t n = 48, heads = 4, kv_heads = 2, dim = 8, dim_v = 6;

/// The nearest number of half precision; none of these is out of its range.
double half(double x) {
    int exponent = 0;
    std::frexp(x, &exponent);
    const double step = std::ldexp(1.0, std::max(exponent - 11, -24));
    return std::nearbyint(x / step) * step;
}

/// Attention in float by plain loops, as another program would have it: out.npy and lse.npy.
struct another_program : inputs {
    array out{{1, n, heads, dim_v}, std::vector<double>(n*heads*dim_v)},
        lse{{1, heads, n}, std::vector<double>(heads*n)};

    explicit another_program(const directory& to, std::size_t sees_ahead = 0, bool in_half = false)
        : inputs(1, n, n, heads, kv_heads, dim, dim_v) {
        for (array* x : {&q, &k, &v})
            if (in_half) std::transform(x->values.begin(), x->values.end(), x->values.begin(), half);
        write(to);
        for (std::size_t h = 0; h < heads; ++h)
            for (std::size_t i = 0; i < n; ++i) {
                const std::size_t g = h / (heads / kv_heads), keys = std::min(n, i + 1 + sees_ahead);
                std::vector<float> p(keys);
                float sum = 0, max = -std::numeric_limits<float>::infinity();
                for (std::size_t j = 0; j < keys; ++j) {
                    float dot = 0;
                    for (std::size_t d = 0; d < dim; ++d)
                        dot += static_cast<float>(q(0, i, h, d)) * static_cast<float>(k(0, j, g, d));
                    p[j] = dot / std::sqrt(static_cast<float>(dim));
                    max = std::max(max, p[j]);
                }
                for (float& x : p) sum += x = std::exp(x - max);
                lse.values[h * n + i] = static_cast<double>(max + std::log(sum));
                for (std::size_t d = 0; d < dim_v; ++d) {
                    float o = 0;
                    for (std::size_t j = 0; j < keys; ++j) o += p[j] / sum * static_cast<float>(v(0, j, g, d));
                    out.values[(i * heads + h) * dim_v + d] = static_cast<double>(o);
                }
            }
        save(to);
    }
    void save(const directory& to) const {
        write_npy(to / "out.npy", out);
        write_npy(to / "lse.npy", lse);
    }
};

constexpr const char* judge_it = "verify q.npy k.npy v.npy --causal --against out.npy ";

[[nodiscard]] outcome judged(const directory& d, const std::string& options, int status) {
    outcome r = run_program(d, judge_it + options);
    INFO(options << "\n" << r.out << r.err);
    CHECK(r.status == status);
    CHECK(r.err.empty());
    CHECK(contains(r.out, status == 0 ? "verified" : "FAILED"));
    return r;
}

} // namespace

TEST_CASE("what another program has made right is verified, with and without a sample") {
    const directory d;
    const another_program other(d);
    const outcome r = judged(d, "--lse lse.npy --json v.json", 0);
    INFO(r.out);
    CHECK(contains(r.out, "out.npy; causal(top-left)"));
    CHECK(contains(r.out, "out: passed, 1152 elements, 1152 of them judged"));
    CHECK(contains(r.out, "lse: passed, 192 elements, 192 of them judged"));
    const auto found = nlohmann::json::parse(read_bytes(d / "v.json"));
    CHECK(found["verified"] == true);
    CHECK(found["judged_as"]["type"] == "float32");
    REQUIRE(found["arrays"].size() == 2);
    CHECK(found["arrays"][0]["array"] == "out");
    CHECK(found["arrays"][0]["off"] == 0);
    CHECK(found["arrays"][0]["worst"]["share_of_bound"] > 0.01);
    CHECK(contains(judged(d, "--lse lse.npy --sample 16", 0).out, "1152 elements, 96 of them judged"));

    // as float64 what was computed in float is not right; as bfloat16 it is
    static_cast<void>(judged(d, "--storage bfloat16", 0));
    static_cast<void>(judged(d, "--storage double", 1));
    // nor is it of another mask, or another scale
    static_cast<void>(judged(d, "--window 40,0", 1));
    static_cast<void>(judged(d, "--scale 0.35", 1));
}

TEST_CASE("seqpar's own arrays are right, in every type and format, gradients too") {
    const directory d;
    const another_program other(d);
    write_npy(d / "dout.npy", random_array({1, n, heads, dim_v}, 4));
    write_npy(d / "sinks.npy", {{heads}, {0.5, -1, 2, 0}});
    const std::string options = " --causal --sinks sinks.npy --alibi auto --dout dout.npy --grads g --lse lse.npy ";
    for (const std::string type : {"--storage float", "--storage double", "--storage bfloat16"}) {
        INFO(type);
        REQUIRE(
            run_program(d, "attend q.npy k.npy v.npy -o out.npy --strategy ring --ranks 3 " + type + options).status ==
            0);
        const outcome r = run_program(d, "verify q.npy k.npy v.npy --against out.npy --ranks 3 " + type + options);
        INFO(r.out << r.err);
        CHECK(r.status == 0);
        for (const char* name : {"out", "lse", "dq", "dk", "dv", "dsinks", "dslopes"})
            CHECK(contains(r.out, std::string(name) + ": passed"));
    }
    // [batch, heads, seq, head_dim]
    const directory e;
    const inputs in(1, heads, heads, n, n, dim, dim); // extents change places: heads are second
    in.write(e);
    REQUIRE(run_program(e, "attend q.npy k.npy v.npy -o out.npy --format bhsd").status == 0);
    CHECK(run_program(e, "verify q.npy k.npy v.npy --against out.npy --format bhsd").status == 0);
    CHECK(run_program(e, "verify q.npy k.npy v.npy --against out.npy").status == 1);
}

TEST_CASE("what is wrong is said where it is and by how much") {
    const directory d;
    another_program other(d);

    SECTION("one element") {
        other.out.values[(7 * heads + 2) * dim_v + 5] += 0.01;
        other.save(d);
        const outcome r = judged(d, "--json v.json", 1);
        CHECK(contains(r.out, "1 of 1152 elements are off"));
        CHECK(contains(r.out, "(batch 0, row 7, head 2, component 5)"));
        const auto out = nlohmann::json::parse(read_bytes(d / "v.json"))["arrays"][0];
        CHECK(out["worst"]["error"].get<double>() == Approx(0.01).epsilon(0.01));
        CHECK(out["worst"]["bound"].get<double>() < 1e-4);
        CHECK(out["where"]["rows"] == nlohmann::json::parse("[[7, 7]]"));
        CHECK(out["verified"] == false);
    }
    SECTION("a wrong head") {
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t c = 0; c < dim_v; ++c)
                other.out.values[(i * heads + 1) * dim_v + c] = other.out(0, i, 0, c);
        other.save(d);
        const outcome r = judged(d, "", 1);
        CHECK(contains(r.out, "head 1 (1 of 4)"));
        CHECK(contains(r.out, "head 1 of batch entry 0 holds what head 0 should"));
    }
    SECTION("lse in base 2") {
        for (double& x : other.lse.values) x /= std::log(2.0);
        other.save(d);
        const outcome r = judged(d, "--lse lse.npy", 1);
        CHECK(contains(r.out, "out: passed"));
        CHECK(contains(r.out, "lse: FAILED"));
        CHECK(contains(r.out, "base 2"));
    }
    SECTION("a causal mask that is off by one") {
        const another_program ahead(d, 1);
        CHECK(contains(judged(d, "", 1).out, "rows 0 to 46 (47 of 48)"));
    }
    SECTION("zeros") {
        std::fill(other.out.values.begin(), other.out.values.end(), 0);
        other.save(d);
        CHECK(contains(judged(d, "", 1).out, "all that is off is 0"));
    }
    SECTION("NaN") {
        other.out.values[3] = std::numeric_limits<double>::quiet_NaN();
        other.save(d);
        CHECK(contains(judged(d, "--json v.json", 1).out, "not finite"));
        CHECK(nlohmann::json::parse(read_bytes(d / "v.json"))["arrays"][0]["worst"]["value"].is_null());
    }
    SECTION("gradients that are scaled by 2") {
        write_npy(d / "dout.npy", random_array({1, n, heads, dim_v}, 4));
        REQUIRE(run_program(d, "attend q.npy k.npy v.npy -o o.npy --causal --dout dout.npy --grads g").status == 0);
        array dv = read_npy(d / "g/dv.npy");
        for (double& x : dv.values) x *= 2;
        write_npy(d / "g/dv.npy", dv);
        const outcome r = judged(d, "--dout dout.npy --grads g", 1);
        CHECK(contains(r.out, "dq: passed"));
        CHECK(contains(r.out, "dk: passed"));
        CHECK(contains(r.out, "dv: FAILED"));
        CHECK(contains(r.out, "2 times what is right"));
    }
}

TEST_CASE("half precision is judged as such") {
    const directory d;
    another_program other(d, 0, true);
    for (double& x : other.out.values) x = half(x);
    other.save(d);
    static_cast<void>(judged(d, "", 1));
    static_cast<void>(judged(d, "--storage float16", 0));
}

TEST_CASE("what cannot be judged is refused with what was seen and what is allowed") {
    const directory d;
    const another_program other(d);
    write_npy(d / "dout.npy", random_array({1, n, heads, dim_v}, 4));
    write_npy(d / "cu.npy", {{2}, {0, 48}, "<i4"});
    write_npy(d / "wide.npy", {other.out.shape, other.out.values, "<f8"});
    const auto refused = [&](const std::string& arguments, const std::vector<std::string>& parts) {
        const auto before = d.names();
        const outcome r = run_program(d, "verify q.npy k.npy v.npy " + arguments);
        INFO(arguments << "\n" << r.out << r.err);
        CHECK(r.status == 2);
        CHECK(r.out.empty());
        for (const std::string& part : parts) CHECK(contains(r.err, part));
        CHECK(d.names() == before);
    };
    refused("--against none.npy", {"none.npy", "no such file"});
    refused("--against q.npy", {"q.npy", "head_dim 8", "head_dim 6", "the shape of the output"});
    refused("--against cu.npy", {"cu.npy", "'<i4'", "float32", "float64"});
    refused("--against lse.npy", {"lse.npy", "3 extents", "4 are needed"});
    refused("--against out.npy --lse out.npy", {"out.npy", "4 extents", "3 are needed"});
    refused("--against wide.npy --lse lse.npy", {"lse.npy is float32", "wide.npy is judged as float64"});
    refused("--against out.npy --grads g", {"--grads g", "--dout"});
    refused("--against out.npy --dout dout.npy", {"--dout dout.npy", "--grads"});
    refused("--against out.npy --dout dout.npy --grads g", {"g/dq.npy", "no such file"});
    refused("--against out.npy --strategy ring", {"--strategy ring", "--against out.npy"});
    refused("--against out.npy -o o.npy", {"-o o.npy", "--against"});
    refused("--against out.npy --sample 3", {"--sample 3", "16"});
    refused("--against out.npy --storage half", {"'half'", "float, double, bfloat16, float16"});
    refused("--against out.npy --json /nowhere/v.json", {"/nowhere"});
    refused("--storage float16", {"'float16'", "float, double, bfloat16"});
    refused("--json v.json", {"--json v.json", "--against"});
    refused("--dout dout.npy --grads g", {"--grads g", "--against"});
    if (program_mpi.empty()) return;
    const outcome r = run_program_mpi(d, 2, judge_it);
    CHECK(r.status == 2);
    CHECK(contains(r.err, "run it without mpirun"));
}
