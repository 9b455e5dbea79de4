/// @file
/// The library's version. The build reads it from here: this is the only place where it is written.
#pragma once

namespace seqpar {

inline constexpr int version_major = 0;
inline constexpr int version_minor = 1;
inline constexpr int version_patch = 0;

/// The same as text, "major.minor.patch".
inline constexpr const char* version_string = "0.1.0";

} // namespace seqpar
