#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <iomanip>
#include <sstream>
#include <string>

namespace seqpar {

/// What verification found of one gradient.
struct gradient_verdict {
    index_t elements = 0; ///< of the gradient; 0: there is none
    index_t judged = 0;   ///< of them, compared with the definition

    struct element {
        index_t batch = 0, row = 0, head = 0, component = 0; ///< global; of dsinks and dslopes only the head counts
    };

    double max_abs_error = 0; ///< from the definition
    double worst_ratio = 0;   ///< largest error over its bound; above 1 fails
    double bound = 0;         ///< at the worst element
    double serial_error = 0;  ///< max_abs_error of serial with the same kernel
    element worst;

    double max_from_serial = 0; ///< over all elements
    double allowed_from_serial = 0;
    element worst_from_serial;
    bool passed = true;
};

/// What verification found of a backward. Trivially copyable: it travels as it is, so that every rank has the same.
struct gradient_report {
    static constexpr std::array<const char*, 5> names{"dq", "dk", "dv", "dsinks", "dslopes"};
    std::array<gradient_verdict, 5> of{}; ///< in the order of names
    bool passed = false;

    [[nodiscard]] double max_abs_error() const {
        double most = 0;
        for (const gradient_verdict& v : of) most = std::max(most, v.max_abs_error);
        return most;
    }
    [[nodiscard]] double worst_ratio() const {
        double most = 0;
        for (const gradient_verdict& v : of) most = std::max(most, v.worst_ratio);
        return most;
    }

    [[nodiscard]] std::string text() const {
        const auto place = [](const gradient_verdict::element& e) {
            return detail::concat("(batch ", e.batch, ", row ", e.row, ", head ", e.head, ", component ", e.component,
                                  ')');
        };
        std::ostringstream out;
        out << std::setprecision(3) << (passed ? "verified" : "FAILED");
        for (std::size_t n = 0; n < of.size(); ++n) {
            const gradient_verdict& v = of[n];
            if (v.elements == 0) continue;
            out << "\n  " << names[n] << ": " << (v.passed ? "" : "FAILED, ") << "judged " << v.judged << " of "
                << v.elements << " elements; max abs error " << v.max_abs_error << ", of serial " << v.serial_error
                << "; worst " << v.worst_ratio << " of its bound " << v.bound << " at " << place(v.worst)
                << "; from serial " << v.max_from_serial << ", allowed " << v.allowed_from_serial << " at "
                << place(v.worst_from_serial);
        }
        return out.str();
    }
};

} // namespace seqpar
