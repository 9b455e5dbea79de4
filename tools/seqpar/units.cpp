#include "units.hpp"

#include <fmt/format.h>

#include <array>

namespace seqpar::tool {

std::string bytes_text(std::size_t bytes) {
    static constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
    if (bytes < 1024) return fmt::format("{} B", bytes);
    double value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1023.5 && unit + 1 < units.size()) value /= 1024, ++unit;
    return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, units[unit]);
}

std::string seconds_text(double seconds) {
    const bool small = seconds < 1;
    const double value = small ? seconds * 1e3 : seconds;
    return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, small ? "ms" : "s");
}

std::string fine_seconds_text(double seconds) {
    return seconds > 0 && seconds < 0.9995e-3 ? fmt::format("{:.{}f} us", seconds * 1e6,
                                                            seconds < 1e-5   ? 2
                                                            : seconds < 1e-4 ? 1
                                                                             : 0)
                                              : seconds_text(seconds);
}

std::string count_text(index_t count) {
    constexpr index_t kilo = 1024, mega = kilo * kilo;
    if (count >= mega && count % mega == 0) return fmt::format("{}M", count / mega);
    if (count >= kilo && count % kilo == 0) return fmt::format("{}K", count / kilo);
    return fmt::format("{}", count);
}

std::string plural(std::size_t count, std::string_view what) {
    return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string ranks_text(int ranks) { return plural(static_cast<std::size_t>(ranks), "rank"); }

std::string type_text(std::string_view type) {
    return type == "double" ? "float64" : type == "float" ? "float32" : std::string(type);
}

std::string describe(const attention_shape& s, std::string_view type) {
    std::string text = fmt::format("batch {}, ", s.batch);
    text += s.queries == s.keys ? fmt::format("{} queries and keys, ", s.queries)
                                : fmt::format("{} queries, {} keys, ", s.queries, s.keys);
    text += fmt::format("{} heads of {}", s.heads, s.dim);
    if (s.kv_heads != s.heads) text += fmt::format(", {} kv heads", s.kv_heads);
    if (s.dim_v != s.dim) text += fmt::format(", values of {}", s.dim_v);
    return fmt::format("{}, {}", text, type_text(type));
}

} // namespace seqpar::tool
