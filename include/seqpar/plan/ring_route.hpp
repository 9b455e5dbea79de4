#pragma once

#include <seqpar/core/error.hpp>

#include <string>

namespace seqpar {

/// What travels round a ring.
enum class ring_passing {
    keys,     ///< K, V of a rank; every rank computes its own rows with them
    queries,  ///< Q of a rank; every rank computes it with its own keys, and the results go home
    automatic ///< of these two, in each pass, the one that sends fewer bytes over all ranks; keys if they are equal
};

/// The way of each rank's block from rank to rank: hop 0 is its owner, and on every hop each rank is visited by one block
/// of each stream. A pure function of route, rank, size and hop.
struct ring_route {
    enum class kind { one_way, bidirectional, double_ring };

    kind way = kind::one_way;
    int width = 0; ///< of a double ring: ranks of an inner one

    /// To the next rank, m = P - 1 hops.
    [[nodiscard]] static constexpr ring_route one_way() noexcept { return {}; }
    /// Two streams, to the next rank and to the one before, on two ports: ceil(m / 2) hops and floor(m / 2).
    [[nodiscard]] static constexpr ring_route bidirectional() noexcept { return {kind::bidirectional, 0}; }
    /// Rings of `width` neighbouring ranks (a node), and K = P / width of these: a block visits the ranks of one inner ring,
    /// then hops to the next one. Of its m hops K - 1 lead out of an inner ring.
    /// (Double rings: Gu et al. 2024, LoongTrain, arXiv:2406.18485.)
    [[nodiscard]] static constexpr ring_route double_ring(int width) noexcept { return {kind::double_ring, width}; }

    [[nodiscard]] constexpr int streams() const noexcept { return way == kind::bidirectional ? 2 : 1; }
    /// Hops of a block in that stream.
    [[nodiscard]] constexpr int hops(int stream, int size) const noexcept {
        return way != kind::bidirectional ? size - 1 : stream == 0 ? size / 2 : (size - 1) / 2;
    }
    /// Where a block is after that many hops.
    [[nodiscard]] constexpr int place(int stream, int owner, int size, int hop) const noexcept {
        return shifted(stream, owner, size, hop, 1);
    }
    /// Whose block is here after that many hops.
    [[nodiscard]] constexpr int owner(int stream, int rank, int size, int hop) const noexcept {
        return shifted(stream, rank, size, hop, -1);
    }

    /// Throws `refusal` if the route does not fit that many ranks.
    void check(int size) const {
        if (way != kind::double_ring || (width >= 1 && width <= size && size % width == 0)) return;
        std::string allowed;
        for (int w = 1; w <= size; ++w)
            if (size % w == 0) allowed += (allowed.empty() ? "" : ", ") + std::to_string(w);
        throw refusal(seqpar::detail::concat("a double ring of inner rings of ", width, " ranks does not fit ", size,
                                             " ranks: allowed are ", allowed));
    }

    /// "", "bidirectional", "double=4"
    [[nodiscard]] std::string name() const {
        return way == kind::one_way         ? ""
               : way == kind::bidirectional ? "bidirectional"
                                            : "double=" + std::to_string(width);
    }

    friend constexpr bool operator==(const ring_route&, const ring_route&) = default;

private:
    /// The rank that lies `hop` hops on (sign 1) or back (-1).
    [[nodiscard]] constexpr int shifted(int stream, int rank, int size, int hop, int sign) const noexcept {
        const auto around = [](int x, int n) { return (x % n + n) % n; };
        if (way != kind::double_ring) return around(rank + (stream == 0 ? sign : -sign) * hop, size);
        const int node = rank / width, inside = rank % width;
        const int outer = hop / width, inner = hop - outer; // of these hops, out of an inner ring and within one
        return around(node + sign * outer, size / width) * width + around(inside + sign * inner, width);
    }
};

} // namespace seqpar
