#pragma once

#include <seqpar/comm/collectives/all_to_all.hpp>
#include <seqpar/comm/collectives/pairwise.hpp>

#include <algorithm>
#include <concepts>
#include <memory_resource>
#include <span>
#include <type_traits>
#include <vector>

namespace seqpar::collective {

/// What reduce_scatter folds with: op(T& into, const T& from) for each element, or op(std::span<T> into,
/// std::span<const T> from) for all at once.
template <class Op, class T>
concept reduction = std::invocable<Op&, T&, const T&> || std::invocable<Op&, std::span<T>, std::span<const T>>;

/// Gives each rank the fold of what all ranks have for it: mine = (part of rank 0) op (part of rank 1) op ... op (part of
/// rank P-1), from left to right in this order on every rank, so that the result is the same from run to run. Collective.
///
/// parts       parts[r] goes to rank r; parts may differ in length and may be empty. parts[r].size() on every rank equals
///             mine.size() on rank r. All-null parts and null mine are ghosts: they travel, and nothing is folded.
/// mine        may be parts[rank] itself, or overlap it.
/// op          see reduction; need not be commutative.
/// scratch     where (P-1) * mine.size() elements are taken from during the call: the order of arrival is not the order
///             of the fold.
/// Cost per rank: sizeof(T) * (sum of parts[r].size() over r != rank), in at most P-1 messages and P-1 rounds.
/// Throws refusal if there is not one part per rank, communication_error if sizes differ.
template <class T, communicator C, reduction<T> Op>
void reduce_scatter(C& c, std::span<const std::span<const T>> parts, std::span<T> mine, Op op,
                    std::pmr::memory_resource* scratch = std::pmr::get_default_resource()) {
    static_assert(std::is_trivially_copyable_v<T>, "reduce_scatter sends elements as their bytes");
    const int rank = c.rank();
    const int size = c.size();
    detail::check_parts("reduce_scatter", "parts", parts.size(), size);
    const std::span<const T> own = parts[static_cast<std::size_t>(rank)];
    if (own.size() != mine.size())
        throw communication_error(detail::size_mismatch(rank, own.size_bytes(), rank, mine.size_bytes()));
    [[maybe_unused]] const auto named = detail::announce(c, "reduce_scatter");

    const std::size_t count = mine.size();
    const bool ghosts = mine.data() == nullptr;
    std::pmr::vector<T> arrived(ghosts ? 0 : count * (parts.size() - 1), scratch); // [P-1, count], own rank left out
    const auto from_rank = [&](int r) {
        const auto slot = static_cast<std::size_t>(r < rank ? r : r - 1);
        return std::span<T>(arrived).subspan(slot * count, count);
    };
    detail::pairwise_exchange(
        c,
        [&](int to) {
            const std::span<const T> part = parts[static_cast<std::size_t>(to)];
            return outgoing{reinterpret_cast<const std::byte*>(part.data()), part.size_bytes()};
        },
        [&](int from) {
            return incoming{ghosts ? nullptr : reinterpret_cast<std::byte*>(from_rank(from).data()), mine.size_bytes()};
        });
    if (ghosts || count == 0) return;

    // The fold begins where rank 0's part lies, not in `mine`, which may still hold this rank's own part.
    const std::span<T> fold = rank == 0 ? mine : from_rank(0);
    if (rank == 0 && mine.data() != own.data()) std::copy(own.begin(), own.end(), mine.begin());
    for (int r = 1; r < size; ++r) {
        const std::span<const T> next = r == rank ? own : std::span<const T>(from_rank(r));
        if constexpr (std::invocable<Op&, std::span<T>, std::span<const T>>)
            op(fold, next);
        else
            for (std::size_t i = 0; i < count; ++i) op(fold[i], next[i]);
    }
    if (rank != 0) std::copy(fold.begin(), fold.end(), mine.begin());
}

} // namespace seqpar::collective
