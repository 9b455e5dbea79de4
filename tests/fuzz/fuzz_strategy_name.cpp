/// The grammar of strategies: any text is a strategy or is refused with a message; what a strategy calls itself is in the
/// grammar again, and is the same strategy.
#include "finding.hpp"

#include "../../tools/seqpar/strategy_name.hpp"

#include <seqpar/comm/self.hpp>
#include <seqpar/core/error.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace {

using seqpar::refusal;
using seqpar::tool::strategy_name;
using seqpar_fuzz::expect_a_message;
using seqpar_fuzz::finding;

/// Why it cannot run on so many ranks; empty if it can.
[[nodiscard]] std::string trouble_on(const strategy_name& s, int ranks) {
    try {
        s.check(ranks);
    } catch (const refusal& why) {
        expect_a_message(why.what());
        return why.what();
    }
    return {};
}

void check(const strategy_name& s, std::string_view text) {
    if (s.text() != text) finding("'" + s.text() + "' is what was written as '" + std::string(text) + "'");
    const std::string printed = s.on<seqpar::self_communicator>().name();
    try {
        const strategy_name again = strategy_name::parse(printed);
        const std::string reprinted = again.on<seqpar::self_communicator>().name();
        if (reprinted != printed) finding("'" + printed + "' is read as '" + reprinted + "'");
        if (again.is_serial() != s.is_serial()) finding("'" + printed + "' is not serial when '" + s.text() + "' is");
        for (int ranks = 1; ranks <= 12; ++ranks)
            if (trouble_on(s, ranks) != trouble_on(again, ranks))
                finding("'" + s.text() + "' and '" + printed + "' differ on " + std::to_string(ranks) + " ranks");
    } catch (const refusal& why) {
        finding("'" + s.text() + "' calls itself '" + printed + "', which is refused: " + why.what());
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    std::vector<strategy_name> all;
    try {
        all = strategy_name::parse_list(text);
    } catch (const refusal& why) {
        expect_a_message(why.what());
        return 0;
    }
    std::size_t from = 0;
    for (const strategy_name& s : all) {
        check(s, text.substr(from, text.find(',', from) - from));
        from += s.text().size() + 1;
    }
    if (from != size + 1)
        finding("a list of " + std::to_string(size) + " letters was read up to " + std::to_string(from));
    return 0;
}
