#pragma once

#include <seqpar/core/tensor.hpp>

#include <nlohmann/json.hpp>

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace seqpar::tool {

/// An object of a JSON file whose fields are known beforehand. What is refused is said with the file, the field's path
/// (rank.memory_GiB), what was seen and what is allowed. Refers to `json`.
class json_object {
public:
    using names = std::initializer_list<std::string_view>;

    /// @throws refusal unless `json` is an object that has these fields, and no others but those that it may have
    json_object(const nlohmann::json& json, std::string file, std::string path, names fields, names optional = {});

    [[nodiscard]] bool has(const char* field) const { return json_.contains(field); }
    [[nodiscard]] std::string text(const char* field) const;
    /// A text, or a list of them, none of them empty.
    [[nodiscard]] std::vector<std::string> texts(const char* field) const;
    /// Which of the allowed words a text is.
    [[nodiscard]] std::size_t choice(const char* field, std::span<const std::string_view> allowed) const;
    [[nodiscard]] int whole(const char* field, index_t low, index_t high) const;
    [[nodiscard]] std::vector<int> wholes(const char* field, index_t low, index_t high) const;
    /// A number above 0, or of 0 and more, times 10^exponent: the double nearest to what was written.
    [[nodiscard]] double above_0(const char* field, int exponent) const;
    [[nodiscard]] double not_below_0(const char* field, int exponent) const;
    [[nodiscard]] double between(const char* field, double low, double high) const;
    [[nodiscard]] json_object object(const char* field, names fields) const;

private:
    [[nodiscard]] std::string name(std::string_view field) const;
    [[nodiscard]] double number(const char* field, const char* allowed) const;
    [[nodiscard]] int whole(const nlohmann::json& value, const std::string& name, index_t low, index_t high) const;
    [[noreturn]] void refuse(const std::string& name, const nlohmann::json& seen, const std::string& allowed) const;

    const nlohmann::json& json_;
    std::string file_, path_;
};

/// x 10^exponent, exactly as if the shortest decimal number that is x had been written with another exponent.
[[nodiscard]] double scaled(double x, int exponent);

} // namespace seqpar::tool
