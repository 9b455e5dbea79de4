/// @file
/// Small .npy files, well-formed and not, without the code that is tested.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace seqpar_test {

using shape_t = std::vector<std::size_t>;

[[nodiscard]] inline std::size_t count_of(const shape_t& shape) {
    return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

/// An array in C order; what its file held is in `type`, <f4, <f8, <i4, <i8 or |b1, and `fortran`.
struct array {
    shape_t shape;
    std::vector<double> values;
    std::string type = "<f4";
    bool fortran = false;

    [[nodiscard]] double operator()(std::size_t a, std::size_t b, std::size_t c, std::size_t d = 0) const {
        const std::size_t last = shape.size() > 3 ? shape[3] : 1;
        return values.at(((a * shape[1] + b) * shape[2] + c) * last + d);
    }
};

/// Normal numbers, rounded to float, so that a file of either type holds them exactly.
[[nodiscard]] inline array random_array(const shape_t& shape, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    array a{shape, std::vector<double>(count_of(shape))};
    for (double& x : a.values) x = normal(engine);
    return a;
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

[[nodiscard]] inline std::string read_bytes(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

/// Magic, version 1.0, the length of the dictionary, and the dictionary.
[[nodiscard]] inline std::string npy_start(std::string dictionary) {
    while ((dictionary.size() + 11) % 64 != 0) dictionary += ' ';
    dictionary += '\n';
    std::string bytes("\x93NUMPY\x01\x00", 8);
    bytes += static_cast<char>(dictionary.size() & 0xff);
    bytes += static_cast<char>(dictionary.size() >> 8);
    return bytes + dictionary;
}

[[nodiscard]] inline std::string dictionary_of(const std::string& type, bool fortran, const shape_t& shape) {
    std::ostringstream text;
    text << "{'descr': '" << type << "', 'fortran_order': " << (fortran ? "True" : "False") << ", 'shape': (";
    for (const std::size_t extent : shape) text << extent << ", ";
    text << "), }";
    return text.str();
}

/// Positions in C order of the elements as they stand in a file in Fortran order.
[[nodiscard]] inline std::vector<std::size_t> fortran_order(const shape_t& shape) {
    std::vector<std::size_t> order, at(shape.size(), 0);
    for (std::size_t n = 0; n < count_of(shape); ++n) {
        std::size_t c = 0;
        for (std::size_t i = 0; i < shape.size(); ++i) c = c * shape[i] + at[i];
        order.push_back(c);
        for (std::size_t i = 0; i < shape.size() && ++at[i] == shape[i]; ++i) at[i] = 0;
    }
    return order;
}

[[nodiscard]] inline std::string npy_bytes(const array& a) {
    std::string bytes = npy_start(dictionary_of(a.type, a.fortran, a.shape));
    const auto put = [&](auto value) {
        char raw[sizeof value];
        std::memcpy(raw, &value, sizeof value);
        bytes.append(raw, sizeof value);
    };
    const std::vector<std::size_t> order = a.fortran ? fortran_order(a.shape) : std::vector<std::size_t>{};
    for (std::size_t n = 0; n < a.values.size(); ++n) {
        const double value = a.values[a.fortran ? order[n] : n];
        if (a.type == "<f8")
            put(value);
        else if (a.type == "<i4")
            put(static_cast<std::int32_t>(value));
        else if (a.type == "<i8")
            put(static_cast<std::int64_t>(value));
        else if (a.type == "|b1")
            put(static_cast<char>(value != 0));
        else
            put(static_cast<float>(value));
    }
    return bytes;
}

inline void write_npy(const std::string& path, const array& a) { write_bytes(path, npy_bytes(a)); }

[[nodiscard]] inline array read_npy(const std::string& path) {
    const std::string bytes = read_bytes(path);
    if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0) throw std::runtime_error(path + " is no .npy file");
    const std::size_t length = static_cast<unsigned char>(bytes[8]) + 256U * static_cast<unsigned char>(bytes[9]);
    const std::string text = bytes.substr(10, length);
    array a;
    a.type = text.substr(text.find("'descr': '") + 10, 3);
    a.fortran = text.find("'fortran_order': True") != std::string::npos;
    std::istringstream tuple(text.substr(text.find('(') + 1));
    for (std::size_t extent = 0; tuple >> extent; tuple.ignore()) a.shape.push_back(extent);
    const std::size_t size = a.type == "<f8" ? 8 : 4, count = count_of(a.shape);
    if (bytes.size() != 10 + length + count * size)
        throw std::runtime_error(path + " is not of the size that it declares");
    a.values.resize(count);
    for (std::size_t n = 0; n < count; ++n) {
        const char* at = bytes.data() + 10 + length + n * size;
        if (size == 8) {
            std::memcpy(&a.values[n], at, 8);
        } else {
            float value = 0;
            std::memcpy(&value, at, 4);
            a.values[n] = value;
        }
    }
    return a;
}

} // namespace seqpar_test
