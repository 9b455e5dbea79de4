#pragma once

#include <seqpar/core/tensor.hpp>

#include <iomanip>
#include <limits>
#include <sstream>
#include <string>

namespace seqpar {

/// What verification found. Trivially copyable: it travels as it is, so that every rank has the same.
struct report {
    // against the definition, in double, at the rows that were judged
    index_t rows = 0;        ///< rows of the output, over batch and heads
    index_t rows_judged = 0; ///< of them, compared with the definition
    double max_abs_error = 0;
    double max_rel_error = 0; ///< error over the largest |out| of its row
    double rms_error = 0;     ///< root of the mean square of out's errors
    double worst_ratio = 0;   ///< largest error over its bound; above 1 fails
    double bound = 0;         ///< at the worst element
    double serial_error = 0;  ///< max_abs_error of serial with the same kernel, at the same rows
    struct element {
        index_t batch = 0, row = 0, head = 0, component = 0; ///< global; component -1 is lse
    } worst;

    // against serial with the same kernel, everywhere
    double max_from_serial = 0;
    double allowed_from_serial = 0;
    element worst_from_serial;
    bool same_bits_as_serial = false;

    bool passed = false;

    [[nodiscard]] std::string text() const {
        const auto place = [](const element& e) {
            return detail::concat("(batch ", e.batch, ", row ", e.row, ", head ", e.head, ", ",
                                  e.component < 0 ? std::string("lse") : detail::concat("component ", e.component),
                                  ')');
        };
        std::ostringstream out;
        out << std::setprecision(3) << (passed ? "verified" : "FAILED")
            << "\n  against the definition in double: rows judged " << rows_judged << " of " << rows
            << "\n    max abs error " << max_abs_error << ", relative " << max_rel_error << ", of serial "
            << serial_error << "\n    worst " << worst_ratio << " of its bound " << bound << " at " << place(worst)
            << "\n  against serial, every element: max difference " << max_from_serial << ", allowed "
            << allowed_from_serial;
        if (same_bits_as_serial)
            out << ", equal bit for bit";
        else
            out << ", at " << place(worst_from_serial);
        return out.str();
    }
};

} // namespace seqpar
