#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/core/placement.hpp>
#include <seqpar/core/rows.hpp>
#include <seqpar/core/tensor.hpp>
#include <seqpar/score/score.hpp>

#include <span>
#include <utility>
#include <vector>

namespace seqpar {

/// Brings the rows of all ranks to rank 0 in global order. Collective. mine: [batch, rows, heads, dim]; `which` says whether
/// rows are placed as queries or as keys. Rank 0 gets [batch, N, heads, dim], the others an empty tensor.
template <element T, communicator C>
[[nodiscard]] tensor<T> collect(C& comm, const tensor_view<const T>& mine, std::span<const placement> where,
                                origin placement::*which, format order = format::bshd) {
    const extents& e = mine.shape();
    const auto rank = static_cast<std::size_t>(comm.rank());
    tensor<T> packed(e);
    copy(mine, packed.view());

    std::vector<outgoing> out(where.size());
    std::vector<incoming> in(where.size());
    std::vector<tensor<T>> parts(where.size());
    const auto bytes = [](tensor_view<T> x) {
        return std::pair(reinterpret_cast<std::byte*>(x.data()), x.wire_bytes());
    };
    out[0] = {bytes(packed.view()).first, bytes(packed.view()).second};
    index_t total = 0;
    for (std::size_t r = 0; r < where.size() && rank == 0; ++r) {
        const index_t rows = (where[r].*which).rows.size();
        parts[r] = tensor<T>({e.batch, rows, e.heads, e.dim});
        in[r] = {bytes(parts[r].view()).first, bytes(parts[r].view()).second};
        total += rows;
    }
    collective::all_to_all(comm, std::span<const outgoing>(out), std::span<const incoming>(in));
    if (rank != 0) return {};
    tensor<T> whole({e.batch, total, e.heads, e.dim}, order);
    for (std::size_t r = 0; r < where.size(); ++r)
        put_rows(std::as_const(parts[r]).view(), (where[r].*which).rows, whole.view());
    return whole;
}

/// The rows of all ranks together. Collective.
template <communicator C>
[[nodiscard]] lengths global_lengths(C& comm, const lengths& mine) {
    std::vector<lengths> all(static_cast<std::size_t>(comm.size()));
    collective::all_gather_doubling(comm, outgoing{reinterpret_cast<const std::byte*>(&mine), sizeof mine},
                                    reinterpret_cast<std::byte*>(all.data()));
    lengths n;
    for (const lengths& of : all) n.queries += of.queries, n.keys += of.keys;
    return n;
}

/// Gives every rank what rank 0 has. Collective. T is trivially copyable.
template <class T, communicator C>
[[nodiscard]] T share(C& comm, const T& of_rank_0) {
    T mine = of_rank_0;
    std::vector<outgoing> out(static_cast<std::size_t>(comm.size()));
    std::vector<incoming> in(out.size());
    if (comm.rank() == 0)
        for (auto& part : out) part = {reinterpret_cast<const std::byte*>(&of_rank_0), sizeof(T)};
    in[0] = {reinterpret_cast<std::byte*>(&mine), sizeof(T)};
    collective::all_to_all(comm, std::span<const outgoing>(out), std::span<const incoming>(in));
    return mine;
}

} // namespace seqpar
