#include "comparison.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace seqpar::tool {

bool comparison::verified() const {
    return std::all_of(rows.begin(), rows.end(), [](const comparison_row& row) { return row.verified(); });
}

std::vector<strategy_name> strategies_that_apply(int ranks, index_t heads) {
    std::vector<std::string> names{"serial", "ulysses", "all-gather", "all-gather:stream=1", "ring", "tree"};
    // The proper divisor nearest to a square of ranks, with a head for each rank of a group if there is such a one.
    int degree = 0;
    for (int d = 2; d * d <= ranks; ++d)
        if (ranks % d == 0 && (degree == 0 || d <= heads)) degree = d;
    if (degree != 0) names.push_back("grid");
    if (degree != 0)
        for (const char* inner : {"ring", "all-gather"}) names.push_back(fmt::format("ulysses:{}/{}", degree, inner));
    std::vector<strategy_name> all;
    for (const std::string& name : names) all.push_back(strategy_name::parse(name));
    return all;
}

} // namespace seqpar::tool
