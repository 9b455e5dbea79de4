#pragma once

#include <seqpar/core/block.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/origin.hpp>
#include <seqpar/core/tensor.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace seqpar {

/// Which two elements of a head are rotated together, of the `dims` that are.
enum class rope_pairing {
    interleaved, ///< 2j and 2j + 1 (the paper, Llama's own code, GPT-J)
    half         ///< j and j + dims / 2 (GPT-NeoX, Hugging Face's rotate_half)
};

/// Rotary position embedding of a block by its own global positions, so the same under every layout and number of ranks.
/// Pair j of a row at position p is turned by the angle
///
///     theta = (p + offset) / scaling * base^(-2j / dims)
///
/// so that q . k depends on the distance of their positions only.
/// (Su et al. 2021, RoFormer, arXiv:2104.09864; scaling: Chen et al. 2023, Position Interpolation, arXiv:2306.15595.)
///
///     rope{}.apply(block<float>{q, at});          // in place, before attention; K likewise with its own origin
///     rope{}.invert(block<float>{dq, at});        // the gradient of apply, after backward: a rotation's transpose
///
/// Angles are computed in double; rotations in the accumulation type.
struct rope {
    double base = 10000;
    rope_pairing pairing = rope_pairing::interleaved;
    index_t dims = 0;   ///< elements of a head that are rotated, its first ones; 0: all
    double scaling = 1; ///< positions are divided by it
    index_t offset = 0; ///< is added to positions: of a chunk that continues a cache

    /// Rotates the rows of a block in place. O(rows * heads * dims), and rows * dims sines.
    /// @throws refusal as check() does, and if the block has another number of rows than positions.
    template <real_element T>
    void apply(const block<T>& x) const {
        apply(x, x.view);
    }
    /// Writes the rotated rows to another view of the same extents. It may be x itself, and must not overlap it otherwise.
    template <class From, real_element T>
    void apply(const block<From>& x, const tensor_view<T>& to) const {
        rotate(x, to, 1);
    }
    /// Undoes apply: rotates by the negative angles.
    template <real_element T>
    void invert(const block<T>& x) const {
        invert(x, x.view);
    }
    template <class From, real_element T>
    void invert(const block<From>& x, const tensor_view<T>& to) const {
        rotate(x, to, -1);
    }

    /// Throws `refusal` if heads of this many elements cannot be rotated so.
    void check(index_t head_dim) const {
        const index_t rotated = rotated_dims(head_dim);
        if (rotated < 0 || rotated > head_dim || rotated % 2 != 0)
            throw refusal(detail::concat("rope rotates pairs, and was given ", rotated, " elements of a head_dim of ",
                                         head_dim, ": allowed are even numbers up to ", head_dim - head_dim % 2));
        if (!std::isfinite(base) || base <= 0)
            throw refusal(
                detail::concat("rope of base ", base, ": it must be finite and above 0; usual are 10000 and more"));
        if (!std::isfinite(scaling) || scaling <= 0)
            throw refusal(detail::concat("rope of scaling ", scaling,
                                         ": it must be finite and above 0; 1 leaves positions as they are"));
    }

private:
    [[nodiscard]] index_t rotated_dims(index_t head_dim) const noexcept { return dims == 0 ? head_dim : dims; }

    template <class From, class T>
    void rotate(const block<From>& x, const tensor_view<T>& to, double direction) const {
        using A = accumulator_t<T>;
        const extents e = x.view.shape();
        check(e.dim);
        if (x.at.rows.size() != e.seq)
            throw refusal(detail::concat("rope of a block with ", e.seq, " rows and ", x.at.rows.size(),
                                         " positions: they must be as many"));
        if (to.shape() != e) throw refusal(detail::concat("rope of ", e, " into ", to.shape(), ": they must be equal"));

        const index_t rotated = rotated_dims(e.dim), pairs = rotated / 2;
        const bool interleaved = pairing == rope_pairing::interleaved;
        const index_t every = interleaved ? 2 : 1, apart = interleaved ? 1 : pairs;
        std::vector<double> frequency;
        for (index_t j = 0; j < pairs; ++j)
            frequency.push_back(direction / scaling *
                                std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(rotated)));

        struct turn {
            A cosine, sine;
        };
        std::vector<turn> turns(frequency.size());
        index_t row = 0;
        for (const run& r : x.at.rows.runs())
            for (index_t i = 0; i < r.count; ++i, ++row) {
                const double p = static_cast<double>(r[i].value + offset);
                for (std::size_t j = 0; j < turns.size(); ++j)
                    turns[j] = {static_cast<A>(std::cos(p * frequency[j])), static_cast<A>(std::sin(p * frequency[j]))};
                for (index_t b = 0; b < e.batch; ++b)
                    for (index_t h = 0; h < e.heads; ++h) {
                        const From* from = x.view.at(b, row, h);
                        T* into = to.at(b, row, h);
                        const index_t in = x.view.step().dim, out = to.step().dim;
                        for (index_t j = 0; j < pairs; ++j) {
                            const turn& t = turns[static_cast<std::size_t>(j)];
                            const index_t first = j * every, second = first + apart;
                            const A a = static_cast<A>(from[first * in]), c = static_cast<A>(from[second * in]);
                            into[first * out] = static_cast<T>(a * t.cosine - c * t.sine);
                            into[second * out] = static_cast<T>(a * t.sine + c * t.cosine);
                        }
                        for (index_t d = rotated; d < e.dim; ++d) into[d * out] = static_cast<T>(from[d * in]);
                    }
            }
    }
};

} // namespace seqpar
