#pragma once

#include <seqpar/core/tensor.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace seqpar::tool {

/// What the elements of an .npy file are.
enum class npy_type { float32, float64, int32, int64, boolean };
/// "float32"
[[nodiscard]] const char* name_of(npy_type type);

/// What an .npy file declares.
struct npy_header {
    npy_type type = npy_type::float32;
    bool fortran_order = false;
    std::vector<index_t> shape;
};

/// What a file is to hold.
struct npy_wanted {
    std::vector<npy_type> types;
    std::size_t extents = 4;
    std::string meaning; ///< of the extents: "[batch, seq, heads, head_dim]"
};

/// Reads and checks the header of a file: a well-formed .npy of a wanted little-endian type and number of extents, whose
/// bytes are exactly those that it declares.
/// @throws refusal, with the path, if it is not; nothing of the size that a file declares is allocated before
[[nodiscard]] npy_header check_npy(const std::string& path, const npy_wanted& wanted);

/// An array from a file: what holds its elements, where they are, and the steps between them.
template <class T>
struct npy_elements {
    std::shared_ptr<const void> owner;
    const T* data = nullptr;
    std::vector<index_t> shape, step;
};

/// Loads what check_npy has found to be an array of T. No copy is made of what xtensor reads.
/// T: float, double, std::int32_t, std::int64_t or bool.
template <class T>
[[nodiscard]] npy_elements<T> load_elements(const std::string& path, const npy_header& header);

/// The numbers of a file of one extent, whatever their type, as To: double or index_t.
template <class To>
[[nodiscard]] std::vector<To> load_list(const std::string& path, const npy_header& header);

/// An array and a view of it, whose extents have their names whatever the order of the file.
template <class T>
struct npy_array {
    std::shared_ptr<const void> owner;
    tensor_view<const T> view;
};

/// Loads a file of float32 or float64 and four extents as elements of T, which may be bfloat16: converted where the file is
/// of another type. Of three extents, [batch, heads, seq], too: head_dim 1.
template <class T>
[[nodiscard]] npy_array<T> load_npy(const std::string& path, const npy_header& header, format order);

/// Writes a dense array in C order and checks that all of it has arrived; bfloat16 as float32.
/// @throws refusal if not, named after `shown`
template <class T>
void save_npy(const std::string& path, const T* data, std::span<const std::size_t> shape, const std::string& shown);

} // namespace seqpar::tool
