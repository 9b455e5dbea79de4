#pragma once

#include <seqpar/planning/candidate.hpp>
#include <seqpar/strategy/all_gather.hpp>
#include <seqpar/strategy/any_strategy.hpp>
#include <seqpar/strategy/grid.hpp>
#include <seqpar/strategy/ring.hpp>
#include <seqpar/strategy/serial.hpp>
#include <seqpar/strategy/tree.hpp>
#include <seqpar/strategy/ulysses.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace seqpar::tool {

/// A strategy as it is written on the command line: name[:option...][/inner].
///
///     serial   ulysses[:degree][/inner]   all-gather[:direct|:ring|:doubling][:stream=c]
///     ring[:bidirectional|:double=w|:pass=q|:pass=kv|:pass=auto]   tree   grid[:PaxPc]
///
/// ulysses alone holds an inner strategy.
class strategy_name {
public:
    /// @throws refusal, with the value seen and those allowed, if a text is none
    [[nodiscard]] static strategy_name parse(std::string_view text);
    /// Of a list separated by commas, at least one.
    [[nodiscard]] static std::vector<strategy_name> parse_list(std::string_view text);

    /// As it was written.
    [[nodiscard]] const std::string& text() const noexcept { return text_; }
    [[nodiscard]] bool is_serial() const noexcept { return parts_.front().name == kind::serial; }

    /// @throws refusal if it cannot run on that many ranks
    void check(int ranks) const;

    /// The strategy itself, for communicators of type C.
    template <communicator C, class Kernel = any_kernel>
    [[nodiscard]] any_strategy<C, Kernel> on() const {
        any_strategy<C, Kernel> all = bare<any_strategy<C, Kernel>>(parts_.back());
        for (std::size_t outer = parts_.size() - 1; outer > 0; --outer)
            all = ulysses<any_strategy<C, Kernel>>{parts_[outer - 1].degree, std::move(all)};
        return all;
    }

    /// What it costs, on no communicator.
    [[nodiscard]] priced_strategy priced() const {
        priced_strategy all = bare<priced_strategy>(parts_.back());
        for (std::size_t outer = parts_.size() - 1; outer > 0; --outer)
            all = ulysses<priced_strategy>{parts_[outer - 1].degree, std::move(all)};
        return all;
    }

private:
    enum class kind { serial, ulysses, all_gather, ring, tree, grid };
    struct part {
        kind name = kind::serial;
        int degree = 0;
        seqpar::all_gather all_gather = {};
        seqpar::ring ring = {};
        seqpar::grid grid = {};
    };

    [[nodiscard]] static part parse_part(std::string_view text, std::string_view whole);
    static void parse_option(part& p, std::string_view option, std::string_view whole);

    template <class Any>
    [[nodiscard]] static Any bare(const part& p) {
        switch (p.name) {
        case kind::ulysses:
            return ulysses<Any>{p.degree, serial{}};
        case kind::all_gather:
            return p.all_gather;
        case kind::ring:
            return p.ring;
        case kind::tree:
            return tree{};
        case kind::grid:
            return p.grid;
        case kind::serial:
            break;
        }
        return serial{};
    }

    std::string text_;
    std::vector<part> parts_; // outermost first
};

} // namespace seqpar::tool
