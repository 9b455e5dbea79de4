/// @file
/// Catch2, version 2 or 3: what a test includes instead of Catch2's own headers. `Approx` needs no qualification.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>

using Catch::Approx; // version 2 does this itself
#else
#include <catch2/catch.hpp>
#endif
