#pragma once

#include <seqpar/core/shape.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace seqpar::tool {

/// "1.50 MiB"
[[nodiscard]] std::string bytes_text(std::size_t bytes);
/// "12.3 ms"
[[nodiscard]] std::string seconds_text(double seconds);
/// The same, with three digits whatever it is: "1.23 us".
[[nodiscard]] std::string fine_seconds_text(double seconds);
/// "1M" of 1048576, "96K", "1000": as whole_number_with_unit reads it.
[[nodiscard]] std::string count_text(index_t count);
/// "1 thread", "4 threads"
[[nodiscard]] std::string plural(std::size_t count, std::string_view what);
/// "4 ranks"
[[nodiscard]] std::string ranks_text(int ranks);
/// "float32" of an element_traits name
[[nodiscard]] std::string type_text(std::string_view type);
/// "batch 1, 16384 queries and keys, 8 heads of 64, float32"
[[nodiscard]] std::string describe(const attention_shape& shape, std::string_view type);

} // namespace seqpar::tool
