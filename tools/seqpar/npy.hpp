#pragma once

#include <seqpar/core/tensor.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace seqpar::tool {

/// What an .npy file of a 4-D array declares.
struct npy_header {
    bool is_double = false; ///< float64; otherwise float32
    bool fortran_order = false;
    std::array<index_t, 4> shape{};
};

/// Reads and checks the header of a file: a well-formed .npy of little-endian float32 or float64 and four extents, whose
/// bytes are exactly those that it declares.
/// @throws refusal, with the path, if it is not; nothing of the size that a file declares is allocated before
[[nodiscard]] npy_header check_npy(const std::string& path);

/// An array from a file and a view of it, whose extents have their names whatever the order of the file.
template <class T>
struct npy_array {
    std::shared_ptr<const void> owner;
    tensor_view<const T> view;
};

/// Loads what check_npy has found to be an array of T. No copy is made of what xtensor reads.
template <class T>
[[nodiscard]] npy_array<T> load_npy(const std::string& path, const npy_header& header, format order);

/// Writes a dense array in C order and checks that all of it has arrived. @throws refusal if not, named after `shown`
template <class T>
void save_npy(const std::string& path, const T* data, std::span<const std::size_t> shape, const std::string& shown);

} // namespace seqpar::tool
