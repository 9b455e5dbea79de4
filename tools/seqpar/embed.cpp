#include "embed.hpp"

#include "file_trouble.hpp"
#include "npy.hpp"
#include "output_file.hpp"

#include <seqpar/core/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <new>
#include <numbers>
#include <random>
#include <vector>

namespace seqpar::tool {
namespace {

constexpr std::size_t width = 128, byte_values = 256;
constexpr double rotary_base = 10000, query_gain = 2;

/// Normal numbers that are the same with every standard library: the engine is specified to the bit, distributions are not.
class normal_numbers {
public:
    explicit normal_numbers(std::uint64_t seed) : engine_(seed) {}

    [[nodiscard]] double operator()() { // Box and Muller 1958
        const double radius = std::sqrt(-2 * std::log(uniform())), angle = 2 * std::numbers::pi * uniform();
        return radius * std::cos(angle);
    }

private:
    /// In (0, 1].
    [[nodiscard]] double uniform() { return static_cast<double>((engine_() >> 11) + 1) * 0x1p-53; }

    std::mt19937_64 engine_;
};

[[nodiscard]] std::vector<unsigned char> read_tokens(const embed_command& c) {
    const std::uintmax_t size = size_of_readable_file(c.text);
    const std::uintmax_t wanted = c.max_tokens ? std::min(size, static_cast<std::uintmax_t>(*c.max_tokens)) : size;
    std::vector<unsigned char> tokens(static_cast<std::size_t>(wanted));
    std::ifstream in(c.text, std::ios::binary);
    in.read(reinterpret_cast<char*>(tokens.data()), static_cast<std::streamsize>(tokens.size()));
    if (in.gcount() != static_cast<std::streamsize>(tokens.size()))
        throw refusal(c.text + ": cannot be read to its end");
    return tokens;
}

/// A projection of each byte that occurs: 256 rows of `columns`.
[[nodiscard]] std::vector<float> project(const std::vector<double>& embedding,
                                         const std::array<bool, byte_values>& occurs, std::size_t columns, double gain,
                                         normal_numbers& normal) {
    std::vector<float> result(byte_values * columns);
    std::vector<double> weights(width);
    for (std::size_t column = 0; column < columns; ++column) {
        for (double& w : weights) w = normal() * gain / std::sqrt(static_cast<double>(width));
        for (std::size_t byte = 0; byte < byte_values; ++byte) {
            if (!occurs[byte]) continue;
            double sum = 0;
            for (std::size_t i = 0; i < width; ++i) sum += weights[i] * embedding[byte * width + i];
            result[byte * columns + column] = static_cast<float>(sum);
        }
    }
    return result;
}

/// [tokens, heads, head_dim]: each token's projection, turned by its position if asked for.
[[nodiscard]] std::vector<float> rows_of(const std::vector<unsigned char>& tokens, const std::vector<float>& projected,
                                         std::size_t heads, std::size_t head_dim, bool rotary) {
    const std::size_t columns = heads * head_dim, pairs = rotary ? head_dim / 2 : 0;
    std::vector<float> rows(tokens.size() * columns);
    std::vector<double> cosine(pairs), sine(pairs), frequency(pairs);
    for (std::size_t i = 0; i < pairs; ++i)
        frequency[i] = std::pow(rotary_base, -2 * static_cast<double>(i) / static_cast<double>(head_dim));
    for (std::size_t t = 0; t < tokens.size(); ++t) {
        float* row = rows.data() + t * columns;
        std::copy_n(projected.data() + tokens[t] * columns, columns, row);
        for (std::size_t i = 0; i < pairs; ++i) {
            const double angle = static_cast<double>(t) * frequency[i];
            cosine[i] = std::cos(angle), sine[i] = std::sin(angle);
        }
        for (std::size_t h = 0; h < heads; ++h)
            for (std::size_t i = 0; i < pairs; ++i) {
                float& x = row[h * head_dim + 2 * i];
                float& y = row[h * head_dim + 2 * i + 1];
                const double a = x, b = y;
                x = static_cast<float>(a * cosine[i] - b * sine[i]);
                y = static_cast<float>(a * sine[i] + b * cosine[i]);
            }
    }
    return rows;
}

[[nodiscard]] std::filesystem::path directory_for(const std::string& name) {
    std::error_code problem;
    std::filesystem::create_directories(name, problem);
    if (problem || !std::filesystem::is_directory(name))
        throw refusal(fmt::format("{}: cannot be a directory for q.npy, k.npy and v.npy: {}", name,
                                  problem ? problem.message() : "it is a file"));
    return name;
}

/// The three files from the tokens; what embed returns.
[[nodiscard]] std::string write_inputs(const embed_command& c, const std::vector<unsigned char>& tokens) {
    const double elements =
        static_cast<double>(tokens.size()) * static_cast<double>(c.heads) * static_cast<double>(c.head_dim);
    if (elements > 0x1p50)
        throw refusal(fmt::format("{} tokens of {} heads of {} are more elements than a file can hold: at most 2^50",
                                  tokens.size(), c.heads, c.head_dim));
    const std::filesystem::path directory = directory_for(c.directory);
    std::array<output_file, 3> files{output_file((directory / "q.npy").string()),
                                     output_file((directory / "k.npy").string()),
                                     output_file((directory / "v.npy").string())};

    std::array<bool, byte_values> occurs{};
    for (const unsigned char token : tokens) occurs[token] = true;
    normal_numbers normal(c.seed);
    std::vector<double> embedding(byte_values * width);
    for (double& x : embedding) x = normal();

    const auto heads = static_cast<std::size_t>(c.heads), kv_heads = static_cast<std::size_t>(c.kv_heads),
               head_dim = static_cast<std::size_t>(c.head_dim);
    const auto make = [&](const output_file& file, std::size_t count, double gain, bool rotary) {
        const std::vector<float> projected = project(embedding, occurs, count * head_dim, gain, normal);
        const std::vector<float> rows = rows_of(tokens, projected, count, head_dim, rotary);
        const std::array<std::size_t, 4> shape{1, tokens.size(), count, head_dim};
        save_npy<float>(file.beside(), rows.data(), shape, file.path());
    };
    make(files[0], heads, query_gain, true);
    make(files[1], kv_heads, 1, true);
    make(files[2], kv_heads, 1, false);
    for (output_file& file : files) file.commit();
    return fmt::format("{}: q.npy [1, {}, {}, {}], k.npy and v.npy [1, {}, {}, {}], float32", c.directory,
                       tokens.size(), heads, head_dim, tokens.size(), kv_heads, head_dim);
}

} // namespace

std::string embed(const embed_command& c) {
    const std::vector<unsigned char> tokens = read_tokens(c);
    try {
        return write_inputs(c, tokens);
    } catch (const std::bad_alloc&) {
        throw refusal(fmt::format("{} tokens of {} heads of {} do not fit in memory: --max-tokens takes fewer",
                                  tokens.size(), c.heads, c.head_dim));
    }
}

} // namespace seqpar::tool
