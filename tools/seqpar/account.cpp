#include "account.hpp"

#include <fmt/format.h>

namespace seqpar::tool {

std::vector<std::string> accounts::faults() const {
    std::vector<std::string> all;
    for (std::size_t r = 0; r < of_ranks.size(); ++r) {
        const plan::cost &have = of_ranks[r].counted, &want = of_ranks[r].predicted;
        const auto differ = [&](const char* what, std::size_t a, std::size_t b) {
            all.push_back(fmt::format("rank {}: {} {}, predicted {}", r, what, a, b));
        };
        if (have.bytes != want.bytes) differ("bytes sent", have.bytes, want.bytes);
        if (have.messages != want.messages) differ("messages sent", have.messages, want.messages);
        const std::size_t off = have.memory > want.memory ? have.memory - want.memory : want.memory - have.memory;
        if (off > want.memory / 100 + 65536) differ("peak extra memory", have.memory, want.memory);
    }
    return all;
}

} // namespace seqpar::tool
