#pragma once

#include <seqpar/core/error.hpp>
#include <seqpar/core/shape.hpp>
#include <seqpar/core/tensor.hpp>
#include <seqpar/score/full.hpp>

#include <limits>
#include <span>
#include <string>
#include <type_traits>

namespace seqpar {

/// An array that is added to scores, or a mask of true where a query may see a key: one element for each (batch, head,
/// query, key), [batch or 1, heads or 1, Nq, Nk], where an extent of 1 serves all. -inf in an additive one hides the key,
/// and so does what stands for it elsewhere: anything at or below half the lowest float, -1.7e38, whatever E is.
/// (The attn_bias of FlashAttention, the attn_mask of ONNX Attention, opset 24, and of PyTorch.)
///
///     bias{array, {batch, heads, Nq, Nk}}              dense
///     bias{array, {batch, heads, Nq, Nk}, {s, s, s, s}}  any strides, in elements
///
/// E: float, double, or bool. Indices are those of the whole sequence, inside documents too. The array is neither copied nor
/// sent: it must outlive the score, and every rank reads only what its rows and keys need, so a mapped file does.
/// Its elements are not part of name(): that all ranks have the same array is the caller's word.
template <class E>
class bias : public full {
    static_assert(std::is_same_v<E, float> || std::is_same_v<E, double> || std::is_same_v<E, bool>,
                  "bias: elements are float or double, which are added, or bool, true where a key may be seen");

public:
    struct shape {
        index_t batch = 1, heads = 1, queries = 0, keys = 0;
        friend bool operator==(const shape&, const shape&) = default;
    };

    bias(const E* array, const shape& of)
        : bias(array, of, {of.heads * of.queries * of.keys, of.queries * of.keys, of.keys, 1}) {}
    bias(const E* array, const shape& of, const shape& strides) : array_(array), shape_(of), step_(strides) {
        if (of.batch == 1) step_.batch = 0;
        if (of.heads == 1) step_.heads = 0;
    }

    void check(const attention_shape& of) const {
        const auto fits = [](index_t have, index_t want) { return have == want || have == 1; };
        if (!fits(shape_.batch, of.batch) || !fits(shape_.heads, of.heads) || shape_.queries != of.queries ||
            shape_.keys != of.keys)
            throw refusal(detail::concat("bias is [", shape_.batch, ", ", shape_.heads, ", ", shape_.queries, ", ",
                                         shape_.keys, "]: allowed is [", of.batch, of.batch == 1 ? ", " : " or 1, ",
                                         of.heads, of.heads == 1 ? ", " : " or 1, ", of.queries, ", ", of.keys,
                                         "]: batch, heads, rows of Q, rows of K"));
    }
    [[nodiscard]] score_stages stages() const noexcept { return bit(score_stage::bias); }
    template <class A>
    void modify(score_stage, const score_row& row, std::span<A> x, std::span<A>) const {
        const E* from = array_ + row.batch * step_.batch + row.head * step_.heads +
                        (row.n.first_query.value + row.query.value) * step_.queries +
                        (row.n.first_key.value + row.keys.first.value) * step_.keys;
        const index_t every = row.keys.stride * step_.keys;
        // One limit for all types: sums in float must hide what sums in double do.
        constexpr float lowest = std::numeric_limits<float>::lowest() / 2;
        for (std::size_t j = 0; j < x.size(); ++j, from += every) {
            // What is hidden is hidden whatever its score, NaN included.
            constexpr A hidden = -std::numeric_limits<A>::infinity();
            if constexpr (std::is_same_v<E, bool>)
                x[j] = *from ? x[j] : hidden;
            else
                x[j] = *from <= lowest ? hidden : x[j] + static_cast<A>(*from);
        }
    }
    [[nodiscard]] std::string name() const {
        return detail::concat(std::is_same_v<E, bool> ? "mask(" : "bias(", shape_.batch, ", ", shape_.heads, ", ",
                              shape_.queries, ", ", shape_.keys, ')');
    }

private:
    const E* array_;
    shape shape_, step_;
};
static_assert(score<bias<float>> && score<bias<bool>>);

} // namespace seqpar
