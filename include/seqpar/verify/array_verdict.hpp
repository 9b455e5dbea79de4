#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/tensor.hpp>

#include <cstddef>
#include <iomanip>
#include <sstream>
#include <string>
#include <vector>

namespace seqpar {

/// What judging found of an array, element by element. An element is off if it is further from what it should be than its
/// bound.
struct array_verdict {
    std::string name;       ///< out, lse, dq, dk, dv, dsinks, dslopes
    extents shape;          ///< [batch, seq, heads, dim]; of lse dim is 1, of dsinks and dslopes all but heads
    index_t judged = 0;     ///< elements that were compared with the definition; the others with serial
    index_t off = 0;        ///< elements that are off, of all
    index_t not_finite = 0; ///< of them, those that are not finite and should be
    double max_abs_error = 0,
           serial_error = 0; ///< from the definition, where it was computed: of this array, of serial

    /// The element whose error is the largest part of its bound.
    struct element {
        index_t batch = 0, row = 0, head = 0, component = 0; ///< global
        double value = 0, right = 0, error = 0, bound = 0, ratio = 0;
        bool defined =
            true; ///< right is the definition's; if not, serial's, and bound what may lie between two results
    } worst;

    /// Indices first to last, both included.
    struct range {
        index_t first = 0, last = 0;
        friend bool operator==(const range&, const range&) = default;
    };
    /// The indices that have an element that is off.
    std::vector<range> batches, rows, heads, components;
    double filled = 0; ///< how much of the box that these span is off
    /// What the elements that are off have in common, in words: a whole head, a block of rows, a factor, ...
    std::vector<std::string> patterns;

    [[nodiscard]] bool passed() const noexcept { return off == 0; }

    [[nodiscard]] std::string text() const {
        std::ostringstream to;
        to << std::setprecision(4) << name << ": ";
        if (passed())
            to << "passed, " << shape.count() << " elements, " << judged << " of them judged by the definition";
        else
            to << "FAILED, " << off << " of " << shape.count() << " elements are off";
        if (shape.count() == 0) return to.str();
        to << "\n  max abs error " << max_abs_error << ", of serial " << serial_error << "\n  worst: " << place()
           << " is " << std::setprecision(9) << worst.value << (worst.defined ? ", right is " : ", serial has ")
           << worst.right << std::setprecision(4) << ": off by " << worst.error << ", " << worst.ratio
           << " of its bound " << worst.bound;
        if (passed()) return to.str();
        to << "\n  where: " << indices("batch entry", "batch entries", batches, shape.batch) << "; "
           << indices("row", "rows", rows, shape.seq) << "; " << indices("head", "heads", heads, shape.heads);
        if (shape.dim > 1) to << "; " << indices("component", "components", components, shape.dim);
        to << ": " << std::setprecision(3) << 100 * filled << "% of that is off";
        for (const std::string& pattern : patterns) to << "\n  it looks like this: " << pattern;
        return to.str();
    }

    /// "(batch 0, row 3, head 1, component 5)"
    [[nodiscard]] std::string place() const {
        const std::string rest = shape.dim > 1 ? detail::concat(", component ", worst.component) : std::string();
        return detail::concat("(batch ", worst.batch, ", row ", worst.row, ", head ", worst.head, rest, ')');
    }

    /// "heads 0 to 3, 7 (5 of 8)"; of many ranges the first four.
    [[nodiscard]] static std::string indices(const char* one, const char* many, const std::vector<range>& of,
                                             index_t all) {
        constexpr std::size_t most = 4;
        index_t count = 0;
        for (const range& r : of) count += r.last - r.first + 1;
        if (count == all) return all == 1 ? detail::concat("the only ", one) : detail::concat("all ", all, ' ', many);
        std::string text = count == 1 ? one : many;
        for (std::size_t n = 0; n < of.size() && n < most; ++n) {
            text += detail::concat(n == 0 ? " " : ", ", of[n].first);
            if (of[n].last > of[n].first) text += detail::concat(" to ", of[n].last);
        }
        return text + detail::concat(of.size() > most ? ", ..." : "", " (", count, " of ", all, ')');
    }
};

} // namespace seqpar
