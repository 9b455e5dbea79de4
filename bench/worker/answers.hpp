#pragma once

#include "problem.hpp"
#include "work.hpp"

#include "bench/support/fma_peak.hpp"
#include "bench/support/product_rate.hpp"
#include "bench/support/read_bandwidth.hpp"
#include "tools/seqpar/processor.hpp"

#include <seqpar/core/cores.hpp>
#include <seqpar/version.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

/// make.operator()<T>() for the element type of that name.
template <class F>
auto with_type(const std::string& name, const F& make) {
    if (name == "float") return make.template operator()<float>();
    if (name == "double") return make.template operator()<double>();
    if (name == "bfloat16") return make.template operator()<seqpar::bfloat16>();
    throw seqpar::refusal("type '" + name + "' is unknown: allowed are float, double, bfloat16");
}

/// The set of that name; "" is the best.
[[nodiscard]] inline seqpar::instruction_set instruction_set_of(const std::string& name) {
    if (name.empty()) return seqpar::best_instruction_set();
    const auto set = seqpar::instruction_set_named(name);
    if (set && is_supported(*set)) return *set;
    throw seqpar::refusal("instruction_set '" + name + "' is unknown, or this processor lacks it");
}

/// of_core() on so many cores at once.
template <class F>
[[nodiscard]] std::vector<double> on_cores(int threads, const F& of_core) {
    std::vector<double> each(static_cast<std::size_t>(threads));
    std::vector<std::jthread> others;
    for (std::size_t t = 1; t < each.size(); ++t) others.emplace_back([&each, &of_core, t] { each[t] = of_core(); });
    each[0] = of_core();
    others.clear(); // joins
    return each;
}

/// Their multiply-add peak, in flop/s.
template <class A>
[[nodiscard]] double peak_of_cores(seqpar::instruction_set set, int threads) {
    const std::vector<double> each = on_cores(threads, [set] { return fma_peak<A>(set); });
    return std::accumulate(each.begin(), each.end(), 0.0);
}

/// What loads leave of the multiply-add peak: of the core of which it is least.
[[nodiscard]] inline double least_share_of_products(seqpar::instruction_set set, int threads) {
    const std::vector<double> each = on_cores(threads, [set] { return share_of_products(set); });
    return *std::min_element(each.begin(), each.end());
}

/// Requests and their answers, one JSON object each. Make(request) gives the work.
///
///     {"do": "describe"}                      {"processor", "cores", "seqpar", "instruction_set", ...}
///     {"do": "peak", "type", "threads"}       {"flops"}: of multiply-adds, a second; "instruction_set": of another one
///     {"do": "products", "threads"}           {"share"}: of that peak, by products of what is in the first-level cache
///     {"do": "bandwidth", "threads"}          {"bytes"}: read, a second
///     {"do": "prepare", "as", ...}            {"flops", "bytes"}: of useful work; `request` says what it takes
///     {"do": "run", "as", "times"}            {"seconds"}: of each of the repetitions, default 1
///     {"do": "write", "as", "to"}             {}
///     {"do": "forget"}                        {}: all that was prepared
///
/// "as" names what is prepared, default "work". What goes wrong is {"error"}.
template <class Make>
class answers {
public:
    explicit answers(Make make) : make_(std::move(make)) {}

    [[nodiscard]] nlohmann::json operator()(const std::string& line) {
        try {
            return answer(nlohmann::json::parse(line));
        } catch (const std::exception& why) {
            return {{"error", why.what()}};
        }
    }

private:
    using json = nlohmann::json;

    [[nodiscard]] json answer(const json& asked) {
        const std::string what = asked.at("do"), as = asked.value("as", "work");
        const int threads = asked.value("threads", 1);
        if (what == "describe") return description();
        if (what == "peak") {
            const auto set = instruction_set_of(asked.value("instruction_set", std::string()));
            return {{"flops", asked.value("type", "float") == "double" ? peak_of_cores<double>(set, threads)
                                                                       : peak_of_cores<float>(set, threads)}};
        }
        if (what == "products") return {{"share", least_share_of_products(seqpar::best_instruction_set(), threads)}};
        if (what == "bandwidth") {
            if (!bandwidth_) bandwidth_.emplace();
            return {{"bytes", (*bandwidth_)(threads)}};
        }
        if (what == "prepare") {
            const request r = request::parse(asked);
            const useful_work useful = useful_work::of(r);
            works_.erase(as);
            works_[as] = make_(r);
            return {{"flops", useful.flops}, {"bytes", useful.bytes}};
        }
        if (what == "run") {
            const int times = asked.value("times", 1);
            if (times < 1) throw seqpar::refusal("run: times is to be at least 1");
            return {{"seconds", prepared(as).run(times) / times}};
        }
        if (what == "write") {
            prepared(as).write(asked.at("to"));
            return json::object();
        }
        if (what == "forget") {
            works_.clear();
            return json::object();
        }
        throw seqpar::refusal("'" + what +
                              "' is unknown: allowed are describe, peak, products, bandwidth, prepare, run, "
                              "write, forget");
    }

    [[nodiscard]] work& prepared(const std::string& as) {
        const auto found = works_.find(as);
        if (found == works_.end()) throw seqpar::refusal("nothing is prepared as '" + as + "'");
        return *found->second;
    }

    [[nodiscard]] static json description() {
        const auto best = seqpar::best_instruction_set();
        return {{"processor", seqpar::tool::processor_name()},
                {"cores", seqpar::cores_here()},
                {"instruction_set", to_string(best)},
                {"vectors", to_string(vectors_of(best))},
                {"bfloat16_products", is_supported(seqpar::instruction_set::avx512_bf16)},
                {"last_cache", last_cache_bytes()},
                {"seqpar", seqpar::version_string},
                {"compiler", compiler()}};
    }
    [[nodiscard]] static std::string compiler() {
#ifdef __clang__
        return __VERSION__;
#else
        return std::string("g++ ") + __VERSION__;
#endif
    }

    Make make_;
    std::map<std::string, std::unique_ptr<work>> works_;
    std::optional<read_bandwidth> bandwidth_; // made when it is first asked for: it is large
};

} // namespace bench
