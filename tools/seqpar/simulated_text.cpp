#include "asked.hpp"
#include "simulated.hpp"
#include "text_table.hpp"
#include "units.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace seqpar::tool {
namespace {

[[nodiscard]] std::vector<std::string> cells(const std::string& strategy, const char* pass, const simulated_row& r,
                                             const std::string& memory) {
    const auto [least, most] = std::minmax_element(r.busy.begin(), r.busy.end());
    const double mean = std::accumulate(r.busy.begin(), r.busy.end(), 0.) / static_cast<double>(r.busy.size());
    return {strategy,
            pass,
            fine_seconds_text(r.seconds),
            fine_seconds_text(r.predicted.whole),
            fmt::format("{:.3f}", r.ratio()),
            fmt::format("{:.1f} / {:.1f} / {:.1f}%", 100 * *least, 100 * mean, 100 * *most),
            bytes_text(r.inside_bytes),
            bytes_text(r.between_bytes),
            fmt::format("{}", r.inside_messages + r.between_messages),
            memory};
}

} // namespace

std::string simulated_schemes::text() const {
    std::string text = asked_text(asked, machine);
    text += fmt::format("{}{}; simulated\n\n", layout,
                        !asked.work.train ? ""
                        : asked.work.keep ? "; what forward has moved is kept"
                                          : "; what forward has moved is sent again");
    std::vector<std::vector<std::string>> table{{"strategy", "pass", "time", "closed form", "ratio",
                                                 "busy: least / mean / most", "within nodes", "between nodes",
                                                 "messages", "memory"}};
    double took = 0;
    for (const simulated_scheme& s : all) {
        table.push_back(cells(s.strategy, "forward", s.forward, bytes_text(s.memory)));
        if (s.backward) table.push_back(cells("", "backward", *s.backward, ""));
        took += s.took;
    }
    text += text_table(table);
    return text +
           fmt::format(
               "\ntime: simulated, until the last rank has ended; ratio: closed form to it. busy: the share of the "
               "time in which a\nrank computes. Bytes and messages of all ranks together. memory: of a rank at the "
               "peak, its tensors among it,\nby the closed form, which tests hold to what is counted. Simulated in "
               "{}.\n",
               seconds_text(took));
}

} // namespace seqpar::tool
