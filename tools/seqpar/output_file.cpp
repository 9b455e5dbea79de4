#include "output_file.hpp"

#include <seqpar/core/error.hpp>

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

namespace seqpar::tool {
namespace fs = std::filesystem;

output_file::output_file(std::string path) : path_(std::move(path)) {
    if (path_.empty()) throw refusal("the name of an output file is empty");
    std::error_code problem;
    const fs::path place = fs::weakly_canonical(fs::absolute(path_), problem);
    if (problem) throw refusal(fmt::format("{}: cannot be written: {}", path_, problem.message()));
    const fs::file_status status = fs::status(place, problem);
    if (fs::is_directory(status) || !place.has_filename())
        throw refusal(path_ + ": cannot be written: this is a directory, and a file is needed");
    if (fs::exists(status) && !fs::is_regular_file(status))
        throw refusal(path_ + ": cannot be written: this is no regular file");
    if (!fs::is_directory(place.parent_path(), problem))
        throw refusal(
            fmt::format("{}: cannot be written: there is no directory {}", path_, place.parent_path().string()));
    if (fs::exists(status) && ::access(place.c_str(), W_OK) != 0)
        throw refusal(fmt::format("{}: cannot be written: {}", path_, std::strerror(errno)));
    place_ = place.string();
    const std::string beside =
        (place.parent_path() / fmt::format(".{}.{}.part", place.filename().string(), ::getpid())).string();
    errno = 0;
    if (!std::ofstream(beside, std::ios::binary | std::ios::trunc))
        throw refusal(fmt::format("{}: cannot be written: {}", path_, std::strerror(errno)));
    // Whoever interrupts what is computed now finds no trace of it.
    fs::remove(beside, problem);
    beside_ = beside;
}

output_file::output_file(output_file&& other) noexcept
    : path_(std::move(other.path_)), place_(std::move(other.place_)), beside_(std::exchange(other.beside_, {})) {}

output_file::~output_file() {
    std::error_code ignored;
    if (!beside_.empty()) fs::remove(beside_, ignored);
}

void output_file::commit() {
    std::error_code problem;
    fs::rename(beside_, place_, problem);
    if (problem) throw refusal(fmt::format("{}: cannot be written: {}", path_, problem.message()));
    beside_.clear();
}

std::string write_text(output_file& to, std::string_view text, std::string_view what) {
    std::ofstream file(to.beside(), std::ios::binary);
    file << text << std::flush;
    if (!file) throw refusal(to.path() + ": cannot be written: the disk did not take all of it");
    file.close();
    to.commit();
    return fmt::format("{}: {}\n", to.path(), what);
}

} // namespace seqpar::tool
