/// The reader of .npy files: any bytes are an array of what is wanted, are all of it, and come back when they are written
/// and read again; or they are refused with a message that begins with the path. The first byte says what is wanted.
#include "finding.hpp"

#include "../../tools/seqpar/npy.hpp"
#include "support/directory.hpp"

#include <seqpar/core/error.hpp>
#include <seqpar/core/tensor.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace {

using namespace seqpar::tool;
using seqpar::index_t;
using seqpar_fuzz::expect_a_message;
using seqpar_fuzz::finding;

/// Where the files of this process are, in memory if there is such a place: a disk is slower than all else here.
class files {
public:
    [[nodiscard]] std::string read() const { return in_ / "read.npy"; }
    [[nodiscard]] std::string written() const { return in_ / "written.npy"; }

private:
    [[nodiscard]] static std::filesystem::path fastest() {
        const std::filesystem::path memory = "/dev/shm";
        return std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path();
    }
    seqpar_test::directory in_{fastest()};
};

const npy_wanted numbers_4{{npy_type::float32, npy_type::float64}, 4, "[batch, seq, heads, head_dim]"};
const npy_wanted numbers_3{{npy_type::float32, npy_type::float64}, 3, "[batch, heads, seq]"};
const npy_wanted numbers_1{{npy_type::float32, npy_type::float64}, 1, "[heads]"};
const npy_wanted wholes_1{{npy_type::int32, npy_type::int64}, 1, "[documents + 1]"};
const npy_wanted pairs_4{{npy_type::float32, npy_type::float64, npy_type::boolean}, 4, "[batch, heads, Nq, Nk]"};
const std::array<const npy_wanted*, 5> wanted{&numbers_4, &numbers_3, &numbers_1, &wholes_1, &pairs_4};

[[nodiscard]] std::size_t count_of(const std::vector<index_t>& shape) {
    std::size_t count = 1;
    for (const index_t extent : shape) count *= static_cast<std::size_t>(extent);
    return count;
}

/// Calls f with a value of the type of the elements.
template <class F>
void with_type(npy_type type, const F& f) {
    switch (type) {
    case npy_type::float32:
        return f(float{});
    case npy_type::float64:
        return f(double{});
    case npy_type::int32:
        return f(std::int32_t{});
    case npy_type::int64:
        return f(std::int64_t{});
    case npy_type::boolean:
        return f(bool{});
    }
}

/// The elements are the last bytes of the file, all that follow its header.
template <class T>
void expect_elements(const npy_elements<T>& loaded, const npy_header& header, std::string_view file) {
    const std::size_t count = count_of(header.shape), bytes = count * sizeof(T);
    if (loaded.shape != header.shape) finding("an array of another shape than its header's");
    if (bytes > file.size()) finding("an array of more elements than its file has");
    if (count == 0) return;
    for (std::size_t i = 0; i < count; ++i) {
        const T element = loaded.data[i]; // where a sanitizer looks at it
        if (std::memcmp(&element, file.data() + file.size() - bytes + i * sizeof(T), sizeof(T)) != 0)
            finding("element " + std::to_string(i) + " is not that of the file");
    }
}

/// A view is written, and read again as it is.
template <class T>
void expect_round_trip(const seqpar::tensor_view<const T>& view, const files& at) {
    const seqpar::extents& e = view.shape();
    seqpar::tensor<T> dense(e);
    seqpar::copy(view, dense.view());
    const std::array<std::size_t, 4> shape{static_cast<std::size_t>(e.batch), static_cast<std::size_t>(e.seq),
                                           static_cast<std::size_t>(e.heads), static_cast<std::size_t>(e.dim)};
    save_npy<T>(at.written(), dense.data(), shape, at.written());
    const npy_array<T> again = load_npy<T>(at.written(), check_npy(at.written(), numbers_4), seqpar::format::bshd);
    if (again.view.shape() != e) finding("an array has another shape after it was written");
    const std::size_t bytes = static_cast<std::size_t>(e.count()) * sizeof(T);
    if (bytes != 0 && std::memcmp(again.view.data(), dense.data(), bytes) != 0)
        finding("an array has other elements after it was written");
}

void check(const npy_header& header, const npy_wanted& as, std::string_view file, const files& at) {
    with_type(header.type, [&](auto like) {
        using T = decltype(like);
        expect_elements(load_elements<T>(at.read(), header), header, file);
    });
    const auto count = count_of(header.shape);
    if (&as == &wholes_1 && load_list<index_t>(at.read(), header).size() != count) finding("a list of another length");
    if (&as == &numbers_1 && load_list<double>(at.read(), header).size() != count) finding("a list of another length");
    if (&as == &numbers_4 || &as == &numbers_3) {
        expect_round_trip(load_npy<float>(at.read(), header, seqpar::format::bshd).view, at);
        expect_round_trip(load_npy<double>(at.read(), header, seqpar::format::bhsd).view, at);
        const auto narrow = load_npy<seqpar::bfloat16>(at.read(), header, seqpar::format::bhsd);
        if (static_cast<std::size_t>(narrow.view.shape().count()) != count) finding("bfloat16 of another shape");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const files at;
    if (size == 0) return 0;
    const npy_wanted& as = *wanted[data[0] % wanted.size()];
    const std::string_view file(reinterpret_cast<const char*>(data) + 1, size - 1);
    std::ofstream(at.read(), std::ios::binary | std::ios::trunc)
        .write(file.data(), static_cast<std::streamsize>(file.size()));
    try {
        check(check_npy(at.read(), as), as, file, at);
    } catch (const seqpar::refusal& why) {
        expect_a_message(why.what());
        if (!std::string_view(why.what()).starts_with(at.read())) finding(std::string("no path in: ") + why.what());
    }
    return 0;
}
