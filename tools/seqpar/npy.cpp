#include "npy.hpp"

#include "file_trouble.hpp"

#include <seqpar/core/error.hpp>

#include <fmt/format.h>
#include <xtensor/xadapt.hpp>
#include <xtensor/xnpy.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <new>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace seqpar::tool {
namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& why) { throw refusal(path + ": " + why); }

/// The dictionary of a header, read from the left. Spaces between its words mean nothing.
class dictionary {
public:
    explicit dictionary(std::string_view text) : rest_(text) {}

    /// Whether these words come next, one after the other; they are passed over.
    template <class... Words>
    [[nodiscard]] bool takes(const Words&... words) {
        return (take(words) && ...);
    }
    /// What begins with `begin` and goes up to the next `end`, both included; empty if nothing does.
    [[nodiscard]] std::string_view enclosed(char begin, char end) {
        skip_spaces();
        const std::size_t last = rest_.starts_with(begin) ? rest_.find(end, 1) : std::string_view::npos;
        const std::string_view found = last == std::string_view::npos ? std::string_view{} : rest_.substr(0, last + 1);
        rest_.remove_prefix(found.size());
        return found;
    }
    [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }

private:
    void skip_spaces() { rest_.remove_prefix(std::min(rest_.find_first_not_of(' '), rest_.size())); }
    [[nodiscard]] bool take(std::string_view word) {
        skip_spaces();
        if (!rest_.starts_with(word)) return false;
        rest_.remove_prefix(word.size());
        return true;
    }

    std::string_view rest_;
};

struct type_row {
    npy_type type;
    std::string_view descr;
    const char* name;
    std::size_t bytes;
};
constexpr std::array<type_row, 5> all_types{{{npy_type::float32, "<f4", "float32", 4},
                                             {npy_type::float64, "<f8", "float64", 8},
                                             {npy_type::int32, "<i4", "int32", 4},
                                             {npy_type::int64, "<i8", "int64", 8},
                                             {npy_type::boolean, "|b1", "bool", 1}}};

[[nodiscard]] const type_row& row_of(npy_type type) {
    return *std::ranges::find_if(all_types, [&](const type_row& t) { return t.type == type; });
}

[[nodiscard]] npy_type type_of(const std::string& path, std::string_view descr, const std::vector<npy_type>& wanted) {
    const std::string_view type = descr.size() > 2 ? descr.substr(1, descr.size() - 2) : descr;
    std::string allowed;
    for (const npy_type t : wanted) {
        const type_row& row = row_of(t);
        if (type == row.descr) return t;
        allowed += fmt::format("{}{} ({})",
                               allowed.empty()      ? ""
                               : t == wanted.back() ? " and "
                                                    : ", ",
                               row.descr, row.name);
    }
    const char* hint = !type.empty() && type.front() == '>' ? " (this one is big-endian)" : "";
    refuse(path, fmt::format("elements are of type '{}'{}: allowed are {}", type, hint, allowed));
}

/// The extents in "(1, 2, 3, 4)".
[[nodiscard]] std::vector<index_t> shape_of(const std::string& path, std::string_view tuple, const npy_wanted& wanted) {
    std::vector<index_t> all;
    std::string_view rest = tuple.substr(1, tuple.size() - 2);
    while (rest.find_first_not_of(' ') != std::string_view::npos) {
        rest.remove_prefix(rest.find_first_not_of(' '));
        index_t extent = 0;
        const auto [end, problem] = std::from_chars(rest.data(), rest.data() + rest.size(), extent);
        if (problem == std::errc::invalid_argument) refuse(path, fmt::format("its shape {} is malformed", tuple));
        if (problem != std::errc{} || extent < 0)
            refuse(path, fmt::format("its shape {} has an extent that is negative or too large", tuple));
        all.push_back(extent);
        rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
        rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
        if (!rest.empty() && rest.front() != ',') refuse(path, fmt::format("its shape {} is malformed", tuple));
        if (!rest.empty()) rest.remove_prefix(1);
    }
    if (all.size() != wanted.extents)
        refuse(path, fmt::format("its shape {} has {} extent{}: {} {} needed, {}", tuple, all.size(),
                                 all.size() == 1 ? "" : "s", wanted.extents, wanted.extents == 1 ? "is" : "are",
                                 wanted.meaning));
    return all;
}

/// Bytes of an array, or nothing if they are too many to be counted.
[[nodiscard]] std::optional<std::uintmax_t> bytes_of(const npy_header& h) {
    std::uintmax_t bytes = row_of(h.type).bytes;
    // An extent of zero must not hide others whose product nobody can count.
    for (const index_t extent : h.shape)
        if (__builtin_mul_overflow(bytes, static_cast<std::uintmax_t>(std::max(extent, index_t{1})), &bytes)) return {};
    if (bytes > static_cast<std::uintmax_t>(std::numeric_limits<index_t>::max())) return {};
    return std::ranges::find(h.shape, 0) != h.shape.end() ? 0 : bytes;
}

[[nodiscard]] std::vector<index_t> dense(const npy_header& h) {
    std::vector<index_t> step(h.shape.size());
    index_t next = 1;
    for (std::size_t i = 0; i < step.size(); ++i) {
        const std::size_t at = h.fortran_order ? i : step.size() - 1 - i;
        step[at] = next;
        next *= h.shape[at];
    }
    return step;
}

} // namespace

const char* name_of(npy_type type) { return row_of(type).name; }

npy_header check_npy(const std::string& path, const npy_wanted& wanted) {
    const std::uintmax_t size = size_of_readable_file(path);
    if (size == 0) refuse(path, "the file is empty: an .npy file is needed");
    std::ifstream in(path, std::ios::binary);
    std::array<unsigned char, 12> start{};
    in.read(reinterpret_cast<char*>(start.data()), 10);
    constexpr std::string_view magic = "\x93NUMPY";
    if (in.gcount() < static_cast<std::streamsize>(magic.size()) ||
        !std::equal(magic.begin(), magic.end(), start.begin(),
                    [](char a, unsigned char b) { return static_cast<unsigned char>(a) == b; }))
        refuse(path, "this is no .npy file: it does not begin with \\x93NUMPY");
    if (in.gcount() < 10) refuse(path, fmt::format("the file is cut off within its header, at byte {}", size));
    const int version = start[6];
    if ((version != 1 && version != 2) || start[7] != 0)
        refuse(path, fmt::format("version {}.{} of the .npy format: allowed are 1.0 and 2.0", start[6], start[7]));
    std::uintmax_t length = start[8] + 256U * start[9], begin = 10;
    if (version == 2) {
        in.read(reinterpret_cast<char*>(start.data()) + 10, 2);
        length += (static_cast<std::uintmax_t>(start[10]) << 16) + (static_cast<std::uintmax_t>(start[11]) << 24);
        begin = 12;
    }
    if (size < begin || length > size - begin)
        refuse(path, fmt::format("the file is cut off within its header: {} bytes are declared and {} are there",
                                 length, size < begin ? 0 : size - begin));
    std::string text(static_cast<std::size_t>(length), '\0');
    in.read(text.data(), static_cast<std::streamsize>(length));
    if (!in) refuse(path, "its header cannot be read");

    // All of it: xtensor reads it once more, and must find the same array, whatever else could stand there.
    dictionary words(text);
    bool well_formed = words.takes("{", "'descr'", ":");
    const std::string_view descr = words.enclosed('\'', '\'');
    well_formed = well_formed && !descr.empty() && words.takes(",", "'fortran_order'", ":");
    const bool fortran = words.takes("True");
    well_formed = well_formed && (fortran || words.takes("False")) && words.takes(",", "'shape'", ":");
    const std::string_view shape = words.enclosed('(', ')');
    static_cast<void>(words.takes(","));
    if (!well_formed || shape.empty() || !words.takes("}", "\n") || !words.at_end())
        refuse(path, "its header is malformed: 'descr', 'fortran_order' and 'shape' are needed, in this order, and "
                     "nothing else");
    npy_header header;
    header.type = type_of(path, descr, wanted.types);
    header.fortran_order = fortran;
    header.shape = shape_of(path, shape, wanted);
    const std::optional<std::uintmax_t> declared = bytes_of(header);
    const std::uintmax_t there = size - begin - length;
    if (!declared)
        refuse(path, fmt::format("its shape {} is of more bytes than can be counted, and {} are there", shape, there));
    if (*declared != there)
        refuse(path, fmt::format("its shape {} takes {} bytes, and {} are there: the file is {}", shape, *declared,
                                 there, there < *declared ? "cut off" : "too long"));
    return header;
}

template <class T>
npy_elements<T> load_elements(const std::string& path, const npy_header& header) {
    using loaded = decltype(xt::load_npy<T>(path));
    std::shared_ptr<const loaded> array;
    try {
        array = std::make_shared<const loaded>(xt::load_npy<T>(path));
    } catch (const std::bad_alloc&) {
        refuse(path, fmt::format("{} bytes do not fit in memory", *bytes_of(header)));
    } catch (const std::runtime_error& why) {
        refuse(path, fmt::format("xtensor cannot load it: {}", why.what()));
    }
    const T* data = array->data();
    if constexpr (std::is_same_v<T, bool>) {
        // Any other byte is no value of a bool, and what a kernel makes of it is anyone's guess.
        const auto* bytes = reinterpret_cast<const unsigned char*>(data);
        const auto* odd = std::find_if(bytes, bytes + array->size(), [](unsigned char b) { return b > 1; });
        if (odd != bytes + array->size())
            refuse(path, fmt::format("element {} is the byte {}: a bool is 0 or 1", odd - bytes, *odd));
    }
    return {std::move(array), data, header.shape, dense(header)};
}

template <class To>
std::vector<To> load_list(const std::string& path, const npy_header& header) {
    const auto read = [&](auto like) {
        const auto from = load_elements<decltype(like)>(path, header);
        std::vector<To> all;
        for (index_t i = 0; i < from.shape[0]; ++i) all.push_back(static_cast<To>(from.data[i]));
        return all;
    };
    switch (header.type) {
    case npy_type::float32:
        return read(float{});
    case npy_type::float64:
        return read(double{});
    case npy_type::int32:
        return read(std::int32_t{});
    default:
        return read(std::int64_t{});
    }
}

namespace {

/// The view of a file of T as the named extents.
template <class T>
[[nodiscard]] npy_array<T> named(npy_elements<T> from, format order) {
    const auto &n = from.shape, &step = from.step;
    if (n.size() == 3) // [batch, heads, seq]
        return {std::move(from.owner), {from.data, {n[0], n[2], n[1], 1}, strides{step[0], step[2], step[1], 1}}};
    const std::size_t seq = order == format::bshd ? 1 : 2, heads = 3 - seq;
    return {std::move(from.owner),
            {from.data, {n[0], n[seq], n[heads], n[3]}, strides{step[0], step[seq], step[heads], step[3]}}};
}

template <class T, class From>
[[nodiscard]] npy_array<T> converted(const npy_array<From>& from) {
    const auto whole = std::make_shared<tensor<T>>(from.view.shape());
    copy(from.view, whole->view());
    const tensor_view<const T> view = std::as_const(*whole).view();
    return {whole, view};
}

} // namespace

template <class T>
npy_array<T> load_npy(const std::string& path, const npy_header& header, format order) {
    if (header.type == npy_type::float64) {
        auto there = named(load_elements<double>(path, header), order);
        if constexpr (std::is_same_v<T, double>)
            return there;
        else if constexpr (std::is_same_v<T, float>)
            return converted<float>(there);
        else
            return converted<T>(converted<float>(there));
    }
    auto there = named(load_elements<float>(path, header), order);
    if constexpr (std::is_same_v<T, float>)
        return there;
    else
        return converted<T>(there);
}

template <class T>
void save_npy(const std::string& path, const T* data, std::span<const std::size_t> shape, const std::string& shown) {
    const std::vector<std::size_t> extents(shape.begin(), shape.end());
    std::size_t count = 1;
    for (const std::size_t extent : extents) count *= extent;
    if constexpr (std::is_same_v<T, bfloat16>) {
        std::vector<float> wide(count);
        std::transform(data, data + count, wide.begin(), [](bfloat16 x) { return static_cast<float>(x); });
        return save_npy<float>(path, wide.data(), shape, shown);
    } else {
        std::error_code ignored;
        try {
            const T empty{}; // an array of nothing has no address, and xtensor wants one
            xt::dump_npy(path, xt::adapt(count == 0 ? &empty : data, count, xt::no_ownership(), extents));
        } catch (const std::runtime_error& why) {
            refuse(shown, fmt::format("cannot be written: {}", why.what()));
        }
        // xtensor does not look whether the disk took it
        const std::uintmax_t have = std::filesystem::file_size(path, ignored);
        if (ignored || have < count * sizeof(T) + 16)
            refuse(shown, fmt::format("cannot be written: {} bytes are needed and the disk took {}", count * sizeof(T),
                                      ignored ? 0 : have));
    }
}

template npy_elements<float> load_elements(const std::string&, const npy_header&);
template npy_elements<double> load_elements(const std::string&, const npy_header&);
template npy_elements<bool> load_elements(const std::string&, const npy_header&);
template std::vector<double> load_list(const std::string&, const npy_header&);
template std::vector<index_t> load_list(const std::string&, const npy_header&);
template npy_array<float> load_npy(const std::string&, const npy_header&, format);
template npy_array<double> load_npy(const std::string&, const npy_header&, format);
template npy_array<bfloat16> load_npy(const std::string&, const npy_header&, format);
template void save_npy(const std::string&, const float*, std::span<const std::size_t>, const std::string&);
template void save_npy(const std::string&, const double*, std::span<const std::size_t>, const std::string&);
template void save_npy(const std::string&, const bfloat16*, std::span<const std::size_t>, const std::string&);

} // namespace seqpar::tool
