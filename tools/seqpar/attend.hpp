#pragma once

#include "agree.hpp"
#include "in_agreement.hpp"
#include "measured_run.hpp"
#include "output_file.hpp"
#include "progress.hpp"
#include "referee.hpp"
#include "trace.hpp"
#include "units.hpp"

#include <seqpar/core/error.hpp>

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace seqpar::tool {

/// The files that attend writes, found writable before anything is computed.
class attend_outputs {
public:
    attend_outputs(const attention_command& c, bool sinks, bool slopes) {
        if (c.out) out_.emplace(*c.out);
        if (c.lse) lse_.emplace(*c.lse);
        if (c.trace) trace_.emplace(*c.trace);
        if (out_ && lse_ && out_->place() == lse_->place())
            throw refusal(fmt::format("{}: -o and --lse name the same file: give two", *c.lse));
        for (const auto* other : {&out_, &lse_})
            if (*other && trace_ && (*other)->place() == trace_->place())
                throw refusal(fmt::format("{}: --trace names the file of another output: give two", *c.trace));
        if (!c.grads) return;
        std::error_code problem;
        std::filesystem::create_directories(*c.grads, problem);
        if (problem || !std::filesystem::is_directory(*c.grads))
            throw refusal(fmt::format("--grads {}: cannot be a directory for dq.npy, dk.npy and dv.npy: {}", *c.grads,
                                      problem ? problem.message() : "it is a file"));
        const auto file = [&](const char* name) { return (std::filesystem::path(*c.grads) / name).string(); };
        dq_.emplace(file("dq.npy")), dk_.emplace(file("dk.npy")), dv_.emplace(file("dv.npy"));
        if (sinks) dsinks_.emplace(file("dsinks.npy"));
        if (slopes) dslopes_.emplace(file("dslopes.npy"));
        for (const auto* other : {&out_, &lse_, &trace_})
            for (const auto* gradient : {&dq_, &dk_, &dv_, &dsinks_, &dslopes_})
                if (*other && *gradient && (*other)->place() == (*gradient)->place())
                    throw refusal(
                        fmt::format("{}: an output and a gradient have the same name: give two", (*other)->path()));
    }

    template <class T>
    void write(const measured_run<T>& run, format order) {
        const extents& e = run.out.shape();
        const std::vector<std::size_t> rows{extent(e.batch), extent(e.heads), extent(e.seq)};
        save(out_, run.out, order);
        if (lse_) save_npy<accumulator_t<T>>(lse_->beside(), run.lse.data(), rows, lse_->path());
        if (run.backward) {
            save(dq_, run.backward->dq, order);
            save(dk_, run.backward->dk, order);
            save(dv_, run.backward->dv, order);
            save(dsinks_, run.backward->dsinks);
            save(dslopes_, run.backward->dslopes);
        }
        for (auto* file : {&out_, &lse_, &dq_, &dk_, &dv_, &dsinks_, &dslopes_})
            if (*file) (*file)->commit();
    }

    /// Right or wrong, what was computed took its time: a trace is written whatever the verdict. What to tell of it.
    template <class T>
    [[nodiscard]] std::string write_trace(const measured_run<T>& run) {
        return trace_ ? tool::write_trace(*trace_, std::span(&*run.trace, 1)) : std::string{};
    }

private:
    [[nodiscard]] static std::size_t extent(index_t n) { return static_cast<std::size_t>(n); }

    template <class T>
    static void save(const std::optional<output_file>& to, const tensor<T>& x, format order) {
        if (!to) return;
        const extents& e = x.shape();
        const bool bshd = order == format::bshd;
        const std::vector<std::size_t> shape{extent(e.batch), extent(bshd ? e.seq : e.heads),
                                             extent(bshd ? e.heads : e.seq), extent(e.dim)};
        save_npy<T>(to->beside(), x.data(), shape, to->path());
    }
    template <class A>
    static void save(const std::optional<output_file>& to, const std::vector<A>& of_heads) {
        const std::vector<std::size_t> shape{of_heads.size()};
        if (to) save_npy<A>(to->beside(), of_heads.data(), shape, to->path());
    }

    std::optional<output_file> out_, lse_, trace_, dq_, dk_, dv_, dsinks_, dslopes_;
};

/// The commands attend and verify: computes, judges what was computed (verify), and writes it where that is asked for and it
/// is right. Returns the exit status. Collective.
template <class T, class Kernel, class World>
[[nodiscard]] int attend(World& world, const attention_command& c, const whole_inputs<T>& in) {
    const bool verifies = c.what == attention_command::kind::verify;
    std::optional<attend_outputs> outputs;
    speaker_in_agreement(world, [&] { outputs.emplace(c, c.score.sinks.has_value(), c.score.alibi.has_value()); });

    measured_run<T> result;
    std::string verdict;
    int status = 0;
    {
        progress shown(world.speaks());
        world.run([&](auto comm) {
            if (comm.rank() == 0)
                shown.say(fmt::format("{}, {}", c.strategies.front().text(), ranks_text(comm.size())));
            measured_run<T> run =
                run_measured<T, Kernel>(comm, c.strategies.front(), c.how.layout, c.how, verifies || c.lse, in, false);
            int judged = 0;
            if (verifies) {
                if (comm.rank() == 0) {
                    shown.say("computing serial and the definition, judging");
                    const referee<T, Kernel> referee(c.how, run.scale, comm.size(), in, nullptr);
                    const report r = referee.judge_forward(run);
                    verdict = r.text();
                    judged = r.passed ? 0 : 1;
                    if (run.backward) {
                        const gradient_report g = referee.judge_backward(run);
                        verdict += "\nbackward: " + g.text();
                        if (!g.passed) judged = 1;
                    }
                }
                await_rank_0(comm);
                judged = share(comm, judged);
            }
            if (comm.rank() == 0) result = std::move(run);
            // Ranks that are threads share `status`, and rank 0 sets it; processes have one each.
            if (comm.rank() == 0 || !world.speaks()) status = judged;
        });
    }
    if (status == 0) speaker_in_agreement(world, [&] { outputs->write(result, c.how.order); });
    std::string timing;
    speaker_in_agreement(world, [&] { timing = outputs->write_trace(result); });
    if (!world.speaks()) return status;
    const attention_shape shape = in.shape();
    fmt::print("{}\n", describe(shape, element_traits<T>::name));
    fmt::print("{}; {} ({}); {}{}\n", result.name, ranks_text(world.ranks()), World::name,
               seconds_text(result.cost.seconds()),
               result.backward ? ", backward " + seconds_text(result.backward->cost.seconds()) : "");
    if (verifies) fmt::print("{}\n", verdict);
    fmt::print("{}", timing);
    return status;
}

} // namespace seqpar::tool
