#pragma once

#include "agree.hpp"
#include "in_agreement.hpp"
#include "measured_run.hpp"
#include "output_file.hpp"
#include "progress.hpp"
#include "referee.hpp"
#include "units.hpp"

#include <seqpar/core/error.hpp>

#include <fmt/format.h>

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace seqpar::tool {

/// The files that attend writes, found writable before anything is computed.
class attend_outputs {
public:
    explicit attend_outputs(const attention_command& c) {
        if (c.out) out_.emplace(*c.out);
        if (c.lse) lse_.emplace(*c.lse);
        if (out_ && lse_ && out_->place() == lse_->place())
            throw refusal(fmt::format("{}: -o and --lse name the same file: give two", *c.lse));
    }

    template <class T>
    void write(const measured_run<T>& run, format order) {
        const extents& e = run.out.shape();
        const auto extent = [](index_t n) { return static_cast<std::size_t>(n); };
        const bool bshd = order == format::bshd;
        const std::vector<std::size_t> shape{extent(e.batch), extent(bshd ? e.seq : e.heads),
                                             extent(bshd ? e.heads : e.seq), extent(e.dim)},
            rows{extent(e.batch), extent(e.heads), extent(e.seq)};
        if (out_) save_npy<T>(out_->beside(), run.out.data(), shape, out_->path());
        if (lse_) save_npy<accumulator_t<T>>(lse_->beside(), run.lse.data(), rows, lse_->path());
        if (out_) out_->commit();
        if (lse_) lse_->commit();
    }

private:
    std::optional<output_file> out_, lse_;
};

/// The commands attend and verify: computes, judges what was computed (verify), and writes it where that is asked for and it
/// is right. Returns the exit status. Collective.
template <class T, class World>
[[nodiscard]] int attend(World& world, const attention_command& c, const whole_inputs<T>& in) {
    const bool verifies = c.what == attention_command::kind::verify;
    std::optional<attend_outputs> outputs;
    speaker_in_agreement(world, [&] { outputs.emplace(c); });

    measured_run<T> result;
    std::string verdict;
    int status = 0;
    {
        progress shown(world.speaks());
        world.run([&](auto comm) {
            if (comm.rank() == 0)
                shown.say(fmt::format("{}, {}", c.strategies.front().text(), ranks_text(comm.size())));
            measured_run<T> run =
                run_measured<T>(comm, c.strategies.front(), c.how.layout, c.how, verifies || c.lse, in, false);
            int judged = 0;
            if (verifies) {
                if (comm.rank() == 0) {
                    shown.say("computing serial and the definition, judging");
                    const report r =
                        make_judge<T>(c.how, run.scale, comm.size(), in).compare(run.out.view(), run.lse.view());
                    verdict = r.text();
                    judged = r.passed ? 0 : 1;
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
    if (!world.speaks()) return status;
    const attention_shape shape = in.shape();
    fmt::print("{}\n", describe(shape, element_traits<T>::name));
    fmt::print("{}; {} ({}); {}\n", result.name, ranks_text(world.ranks()), World::name,
               seconds_text(result.cost.seconds()));
    if (verifies) fmt::print("{}\n", verdict);
    return status;
}

} // namespace seqpar::tool
