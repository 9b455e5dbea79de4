#pragma once

#include <string>

namespace seqpar::tool {

/// What to tell of the exception that is being handled.
[[nodiscard]] std::string failure_text();

/// The exit status of a program whose output is complete; refused, with a message, if standard output did not take it.
[[nodiscard]] int finish_output(int status);

} // namespace seqpar::tool
