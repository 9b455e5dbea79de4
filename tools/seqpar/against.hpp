#pragma once

#include "in_agreement.hpp"
#include "inputs.hpp"
#include "npy.hpp"
#include "output_file.hpp"
#include "progress.hpp"
#include "settings.hpp"
#include "units.hpp"
#include "verdict.hpp"

#include <seqpar/core/cores.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/verify/results.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace seqpar::tool {

/// The nearest number of half precision.
[[nodiscard]] inline float rounded_to_half(float x) {
    if (!std::isfinite(x) || x == 0) return x;
    int exponent = 0;
    std::frexp(x, &exponent);
    const float step = std::ldexp(1.0f, std::max(exponent - 11, -24)), nearest = std::nearbyint(x / step) * step;
    return std::abs(nearest) > 65504 ? std::copysign(std::numeric_limits<float>::infinity(), x) : nearest;
}

/// The arrays of another program, from its files.
template <class T>
class given_files {
public:
    /// @throws refusal, with a path, if one is missing, malformed, of a type that is narrower than OUT's, or of a wrong shape
    given_files(const attention_command& c, const input_headers& headers, const extents& q, const extents& k,
                const extents& v) {
        const extents out{q.batch, q.seq, q.heads, v.dim}, rows{q.batch, q.seq, q.heads, 1};
        out_ = load<T>(*c.against, *headers.out, c.how.order, out, "the shape of the output");
        if (c.lse)
            lse_ = load<accumulator_t<T>>(*c.lse, check(c, *c.lse, 3, "[batch, heads, seq]"), c.how.order, rows,
                                          "one for each row of each head");
        if (!c.grads) return;
        const auto gradient = [&](const char* name, const extents& want, const char* of) {
            const std::string path = (std::filesystem::path(*c.grads) / name).string();
            return load<T>(path, check(c, path, 4, "[batch, seq, heads, head_dim]"), c.how.order, want, of);
        };
        dq_ = gradient("dq.npy", q, "the shape of Q"), dk_ = gradient("dk.npy", k, "the shape of K");
        dv_ = gradient("dv.npy", v, "the shape of V");
        if (c.score.sinks) dsinks_ = of_heads(c, "dsinks.npy", q.heads);
        if (c.score.alibi) dslopes_ = of_heads(c, "dslopes.npy", q.heads);
    }

    [[nodiscard]] given_results<T> results() const {
        given_results<T> of;
        of.out = out_.view;
        if (lse_) of.lse = lse_->view;
        if (dq_) of.dq = dq_->view, of.dk = dk_->view, of.dv = dv_->view;
        of.dsinks = dsinks_, of.dslopes = dslopes_;
        return of;
    }

private:
    [[nodiscard]] static npy_header check(const attention_command& c, const std::string& path, std::size_t count,
                                          const char* meaning) {
        npy_header header = check_npy(path, {{npy_type::float32, npy_type::float64}, count, meaning});
        // What was rounded to float is not wrong by the roundings of double.
        if (std::is_same_v<T, double> && header.type != npy_type::float64)
            throw refusal(
                fmt::format("{} is {} and {} is judged as float64: they must be of one type, or give --storage "
                            "float",
                            path, name_of(header.type), *c.against));
        return header;
    }
    template <class E>
    [[nodiscard]] static npy_array<E> load(const std::string& path, const npy_header& header, format order,
                                           const extents& want, const char* what) {
        npy_array<E> array = load_npy<E>(path, header, order);
        if (array.view.shape() != want)
            throw refusal(detail::concat(path, ": it is ", array.view.shape(), ": allowed is ", want, ", ", what));
        return array;
    }
    /// Gradients of sinks and slopes are judged where they are there: many programs have none.
    [[nodiscard]] static std::vector<double> of_heads(const attention_command& c, const char* name, index_t heads) {
        const std::filesystem::path path = std::filesystem::path(*c.grads) / name;
        if (!std::filesystem::exists(path)) return {};
        std::vector<double> all = load_list<double>(path.string(), check(c, path.string(), 1, "[heads]"));
        if (static_cast<index_t>(all.size()) != heads)
            throw refusal(fmt::format("{}: it has {} numbers: allowed are {}, one for each head", path.string(),
                                      all.size(), heads));
        return all;
    }

    npy_array<T> out_;
    std::optional<npy_array<accumulator_t<T>>> lse_;
    std::optional<npy_array<T>> dq_, dk_, dv_;
    std::vector<double> dsinks_, dslopes_;
};

/// The command verify with --against: judges what another program has computed of these inputs. Returns the exit status.
template <class T, class World>
[[nodiscard]] int judge_against(World& world, const attention_command& c, const whole_inputs<T>& in,
                                const input_headers& headers) {
    given_inputs<T> inputs;
    inputs.q = in.q.view, inputs.k = in.k.view, inputs.v = in.v.view, inputs.scale = c.how.scale;
    if (in.dout) inputs.dout = in.dout->view;
    if (in.dlse) inputs.dlse = in.dlse->view;
    judging how;
    how.merges = c.ranks.value_or(1), how.rows = c.how.sample;
    std::vector<tensor<T>> halves; // what the other program was given
    const bool half = c.storage == storage_type::float16;
    if constexpr (std::is_same_v<T, float>)
        if (half) {
            how.arithmetic = judged_arithmetic::of_others_float16(how.merges);
            for (auto* view : {&inputs.q, &inputs.k, &inputs.v, &inputs.dout}) {
                tensor<float>& to = halves.emplace_back(view->shape());
                copy(*view, to.view());
                std::transform(to.data(), to.data() + to.shape().count(), to.data(), rounded_to_half);
            }
            inputs.q = halves[0].view(), inputs.k = halves[1].view(), inputs.v = halves[2].view();
            if (in.dout) inputs.dout = halves[3].view();
        }

    std::optional<given_files<T>> files;
    std::optional<output_file> json;
    in_agreement(world, [&] {
        files.emplace(c, headers, inputs.q.shape(), inputs.k.shape(), inputs.v.shape());
        if (c.json) json.emplace(*c.json);
    });
    verdict found;
    found.shape = in.shape(), found.type = half ? "float16" : type_text(element_traits<T>::name);
    found.score = c.how.score.name(), found.ranks = how.merges;
    found.scale = inputs.scale.value_or(1 / std::sqrt(static_cast<double>(found.shape.dim)));
    {
        progress shown(world.speaks());
        shown.say("computing serial and the definition, judging");
        const thread_pool cores(std::min(cores_here(), 64));
        found.judged = judge_results(inputs, c.how.score, files->results(), how, executor_ref(cores), c.how.kernel);
    }
    if (json) {
        std::ofstream file(json->beside());
        file << found.json() << std::flush;
        if (!file) throw refusal(json->path() + ": cannot be written: the disk did not take all of it");
        json->commit();
    }
    if (world.speaks())
        fmt::print("{}\n{}; {}, scale {:.6g}; as of {}\n{}\n",
                   describe(found.shape, half ? "float16" : element_traits<T>::name), *c.against, found.score,
                   found.scale, ranks_text(found.ranks), found.judged.text());
    return found.judged.passed() ? 0 : 1;
}

} // namespace seqpar::tool
