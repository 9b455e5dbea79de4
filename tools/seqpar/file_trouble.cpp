#include "file_trouble.hpp"

#include <seqpar/core/error.hpp>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace seqpar::tool {

std::uintmax_t size_of_readable_file(const std::string& path) {
    namespace fs = std::filesystem;
    std::error_code problem;
    const fs::file_status status = fs::status(path, problem);
    if (status.type() == fs::file_type::not_found) throw refusal(path + ": there is no such file");
    if (problem) throw refusal(path + ": " + problem.message());
    if (fs::is_directory(status)) throw refusal(path + ": this is a directory, and a file is needed");
    if (!fs::is_regular_file(status)) throw refusal(path + ": this is no regular file");
    errno = 0;
    if (!std::ifstream(path, std::ios::binary)) throw refusal(path + ": cannot be read: " + std::strerror(errno));
    const std::uintmax_t size = fs::file_size(path, problem);
    if (problem) throw refusal(path + ": " + problem.message());
    return size;
}

} // namespace seqpar::tool
