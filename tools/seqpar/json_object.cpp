#include "json_object.hpp"

#include "words.hpp"

#include <seqpar/core/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace seqpar::tool {
namespace {

using nlohmann::json;

/// Short enough for a line.
[[nodiscard]] std::string clipped(const std::string& text) {
    constexpr std::size_t most = 60;
    return text.size() <= most ? text : text.substr(0, most - 3) + "...";
}

} // namespace

json_object::json_object(const json& from, std::string file, std::string path, names fields, names optional)
    : json_(from), file_(std::move(file)), path_(std::move(path)) {
    const std::string self = path_.empty() ? "it" : path_;
    if (!json_.is_object()) refuse(self, json_, "an object, {...}");
    std::vector<std::string_view> known(fields);
    known.insert(known.end(), optional.begin(), optional.end());
    for (const auto& [field, value] : json_.items())
        if (std::find(known.begin(), known.end(), field) == known.end())
            throw refusal(fmt::format("{}: {} is unknown: {} has {}; nearest is {}", file_, clipped(name(field)), self,
                                      list(known), nearest(clipped(field), known)));
    for (const std::string_view field : fields)
        if (!json_.contains(field))
            throw refusal(fmt::format("{}: {} is missing{}", file_, name(field),
                                      field == "source" ? ": say where the numbers beside it come from" : ""));
}

std::string json_object::name(std::string_view field) const {
    return path_.empty() ? std::string(field) : fmt::format("{}.{}", path_, field);
}

void json_object::refuse(const std::string& name, const json& seen, const std::string& allowed) const {
    throw refusal(fmt::format("{}: {} is {}: allowed is {}", file_, name, clipped(seen.dump(-1, ' ', true)), allowed));
}

std::string json_object::text(const char* field) const {
    const json& value = json_.at(field);
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) refuse(name(field), value, "a text");
    return value.get<std::string>();
}

std::vector<std::string> json_object::texts(const char* field) const {
    const json& value = json_.at(field);
    if (value.is_string()) return {text(field)};
    const auto is_text = [](const json& one) { return one.is_string() && !one.get_ref<const std::string&>().empty(); };
    if (!value.is_array() || value.empty() || !std::all_of(value.begin(), value.end(), is_text))
        refuse(name(field), value, "a text, or a list of texts");
    return value.get<std::vector<std::string>>();
}

std::size_t json_object::choice(const char* field, std::span<const std::string_view> allowed) const {
    return tool::choice(fmt::format("{}: {}", file_, name(field)), text(field), allowed);
}

int json_object::whole(const json& value, const std::string& name, index_t low, index_t high) const {
    const bool in_range =
        value.is_number_unsigned()
            ? value.get<std::uint64_t>() >= static_cast<std::uint64_t>(low) &&
                  value.get<std::uint64_t>() <= static_cast<std::uint64_t>(high)
            : value.is_number_integer() && value.get<std::int64_t>() >= low && value.get<std::int64_t>() <= high;
    if (!in_range) refuse(name, value, fmt::format("a whole number from {} to {}", low, high));
    return value.get<int>();
}

int json_object::whole(const char* field, index_t low, index_t high) const {
    return whole(json_.at(field), name(field), low, high);
}

std::vector<int> json_object::wholes(const char* field, index_t low, index_t high) const {
    const json& value = json_.at(field);
    if (!value.is_array()) refuse(name(field), value, "a list of whole numbers");
    std::vector<int> all;
    for (const json& one : value) all.push_back(whole(one, fmt::format("{}[{}]", name(field), all.size()), low, high));
    return all;
}

double json_object::number(const char* field, const char* allowed) const {
    const json& value = json_.at(field);
    if (!value.is_number()) refuse(name(field), value, allowed);
    return value.get<double>();
}

double json_object::above_0(const char* field, int exponent) const {
    constexpr const char* allowed = "a number above 0";
    const double x = scaled(number(field, allowed), exponent);
    if (!(x > 0)) refuse(name(field), json_.at(field), allowed);
    return x;
}

double json_object::not_below_0(const char* field, int exponent) const {
    constexpr const char* allowed = "a number of 0 or more";
    const double x = scaled(number(field, allowed), exponent);
    if (!(x >= 0)) refuse(name(field), json_.at(field), allowed);
    return x;
}

double json_object::between(const char* field, double low, double high) const {
    const std::string allowed = fmt::format("a number from {} to {}", low, high);
    const double x = number(field, allowed.c_str());
    if (!(x >= low && x <= high)) refuse(name(field), json_.at(field), allowed);
    return x;
}

json_object json_object::object(const char* field, names fields) const {
    return {json_.at(field), file_, name(field), fields};
}

double scaled(double x, int exponent) {
    std::array<char, 64> digits{};
    const std::to_chars_result end =
        std::to_chars(digits.data(), digits.data() + digits.size(), x, std::chars_format::scientific);
    const std::string text(digits.data(), end.ptr); // "-1.3e+02"
    const std::size_t e = text.find('e');
    if (e == text.npos) return x; // not finite
    int power = 0;
    std::from_chars(text.data() + e + (text[e + 1] == '+' ? 2 : 1), text.data() + text.size(), power);
    const std::string shifted = fmt::format("{}e{}", text.substr(0, e), power + exponent);
    double result = 0;
    const auto read = std::from_chars(shifted.data(), shifted.data() + shifted.size(), result);
    return read.ec == std::errc{} ? result : 0; // too large or too small for a double: no number that is allowed
}

} // namespace seqpar::tool
