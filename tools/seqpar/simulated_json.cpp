#include "asked.hpp"
#include "simulated.hpp"

#include <seqpar/version.hpp>

#include <nlohmann/json.hpp>

namespace seqpar::tool {
namespace {

using nlohmann::ordered_json;

[[nodiscard]] ordered_json of(const simulated_row& r) {
    return {{"seconds", r.seconds},
            {"closed_form",
             {{"seconds", r.predicted.whole},
              {"compute_seconds", r.predicted.compute},
              {"exchange_seconds", r.predicted.exchange},
              {"latency_seconds", r.predicted.latency},
              {"seconds_without_contention", r.predicted.alone},
              {"max_bytes_sent_of_a_rank", r.predicted_cost.bytes},
              {"max_messages_sent_of_a_rank", r.predicted_cost.messages},
              {"max_rounds_of_a_rank", r.predicted_cost.rounds}}},
            {"ratio", r.ratio()},
            {"within_nodes", {{"bytes", r.inside_bytes}, {"messages", r.inside_messages}}},
            {"between_nodes", {{"bytes", r.between_bytes}, {"messages", r.between_messages}}},
            {"busy_of_ranks", r.busy},
            {"bytes_sent_of_ranks", r.bytes},
            {"messages_sent_of_ranks", r.messages}};
}

} // namespace

std::string simulated_schemes::json() const {
    ordered_json found{{"seqpar", version_string}, {"asked", asked_json(asked, machine)}, {"layout", layout}};
    if (asked.work.train) found["save"] = asked.work.keep ? "keep" : "resend";
    found["schemes"] = ordered_json::array();
    for (const simulated_scheme& s : all) {
        ordered_json one{{"strategy", s.strategy},
                         {"seconds", s.forward.seconds + (s.backward ? s.backward->seconds : 0)},
                         {"memory_bytes", s.memory},
                         {"took_seconds", s.took},
                         {"forward", of(s.forward)}};
        if (s.backward) one["backward"] = of(*s.backward);
        found["schemes"].push_back(std::move(one));
    }
    return found.dump(1) + '\n';
}

} // namespace seqpar::tool
