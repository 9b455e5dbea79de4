/// @file
/// How a fuzz target says that an input has found something: by ending the process, as libFuzzer expects it.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>

namespace seqpar_fuzz {

[[noreturn]] inline void finding(const std::string& what) {
    // Ranks find the same at once, and the second to abort would end libFuzzer while it keeps the input for the first.
    static std::mutex once;
    once.lock();
    std::fprintf(stderr, "finding: %s\n", what.c_str());
    std::abort();
}

/// A refusal must say something: a person has nothing else to go by.
inline void expect_a_message(const std::string& refusal) {
    if (refusal.find_first_not_of(" \n") == std::string::npos) finding("a refusal without a message");
}

} // namespace seqpar_fuzz
