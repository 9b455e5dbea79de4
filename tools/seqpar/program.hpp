#pragma once

#include "against.hpp"
#include "attend.hpp"
#include "calibrate.hpp"
#include "command_line.hpp"
#include "compare.hpp"
#include "embed.hpp"
#include "in_agreement.hpp"
#include "inputs.hpp"
#include "machine_named.hpp"
#include "plan_schemes.hpp"
#include "score_request.hpp"
#include "simulate_schemes.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/reproducible.hpp>

#include <fmt/format.h>

#include <cstdio>
#include <optional>
#include <string>
#include <variant>

namespace seqpar::tool {

/// Exit status of what is refused.
inline constexpr int refused = 2;

template <class T, class Kernel, class World>
[[nodiscard]] int run_attention_on(World& world, attention_command c, const input_headers& headers) {
    std::optional<whole_inputs<T>> in;
    std::optional<loaded_score> score;
    in_agreement(world, [&] {
        in.emplace(load_inputs<T>(c, headers));
        score.emplace(load_score(c.score, in->shape()));
    });
    c.how.score = score->score;
    if (c.against) return judge_against<T>(world, c, *in, headers);
    return c.what == attention_command::kind::compare ? compare<T, Kernel>(world, c, *in)
                                                      : attend<T, Kernel>(world, c, *in);
}

/// Kernel: any_kernel, or `reproducible`, which reproducible_*.cpp compile.
template <class Kernel, class World>
[[nodiscard]] int run_attention(World& world, const attention_command& c, const input_headers& headers) {
    switch (headers.storage(c)) {
    case storage_type::float64:
        return run_attention_on<double, Kernel>(world, c, headers);
    case storage_type::bfloat16:
        return run_attention_on<bfloat16, Kernel>(world, c, headers);
    case storage_type::float32:
    case storage_type::float16:
        break;
    }
    return run_attention_on<float, Kernel>(world, c, headers);
}

/// The program in a world: returns the exit status. Collective over its processes. What is refused is thrown.
template <class World>
[[nodiscard]] int run_program(World& world, int argc, const char* const* argv, const std::string& name) {
    const command what = read_command_line(argc, argv, name);
    if (const auto* told = std::get_if<nothing_to_do>(&what)) {
        if (world.speaks()) fmt::print(told->status == 0 ? stdout : stderr, "{}\n", told->text);
        return told->status;
    }
    if (const auto* c = std::get_if<embed_command>(&what)) {
        speaker_in_agreement(world, [&] { fmt::print("{}\n", embed(*c)); });
        return 0;
    }
    if (const auto* c = std::get_if<machines_command>(&what)) {
        speaker_in_agreement(world, [&] { fmt::print("{}", describe_machines(c->machine)); });
        return 0;
    }
    // One process is enough for a machine that is not here.
    if (const auto* c = std::get_if<plan_command>(&what)) {
        speaker_in_agreement(world, [&] { fmt::print("{}", plan_schemes(*c)); });
        return 0;
    }
    if (const auto* c = std::get_if<simulate_command>(&what)) {
        speaker_in_agreement(world, [&] { fmt::print("{}", simulate_schemes(*c)); });
        return 0;
    }
    if (const auto* c = std::get_if<calibrate_command>(&what)) {
        world.settle(c->ranks ? c->ranks : world.cores());
        return calibrate(world, *c);
    }
    attention_command c = std::get<attention_command>(what);
    world.settle(c.against ? std::nullopt : c.ranks);
    if (c.against && world.ranks() > 1)
        throw refusal(fmt::format("--against {}: one process judges, and this MPI job has {}: run it without mpirun",
                                  *c.against, world.ranks()));
    if (!c.how.threads_per_rank) c.how.threads_per_rank = world.threads_per_rank();
    input_headers headers;
    in_agreement(world, [&] { headers = check_inputs(c); });
    // Ranks that found different types in files of one name must not part ways here.
    in_agreement(world, [&] {
        if (!world.same(headers.storage(c) == storage_type::float64 ? 1 : 0))
            throw refusal(c.q + " is of different types on different ranks: all ranks must see the same files");
    });
    return c.how.reproducible ? run_attention<reproducible>(world, c, headers)
                              : run_attention<any_kernel>(world, c, headers);
}

} // namespace seqpar::tool
