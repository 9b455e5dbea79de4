#pragma once

#include <string>
#include <string_view>

namespace seqpar::tool {

/// A file that appears whole or not at all: written beside its place and renamed when it is done. Until commit() the place
/// stays as it was, and what was written goes with the object.
class output_file {
public:
    /// @throws refusal, with the path and the reason, if it could not be written
    explicit output_file(std::string path);
    output_file(output_file&& other) noexcept;
    output_file& operator=(output_file&&) = delete;
    ~output_file();

    [[nodiscard]] const std::string& path() const noexcept { return path_; }     ///< as the user wrote it
    [[nodiscard]] const std::string& place() const noexcept { return place_; }   ///< without links
    [[nodiscard]] const std::string& beside() const noexcept { return beside_; } ///< write here
    void commit();

private:
    std::string path_, place_, beside_;
};

/// Writes the whole of a file, and returns a line that says so: "table.json: `what`". @throws refusal if it could not be written
[[nodiscard]] std::string write_text(output_file& to, std::string_view text, std::string_view what);

} // namespace seqpar::tool
