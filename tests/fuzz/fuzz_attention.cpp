/// Any shape on any number of thread ranks, in any layout, by any strategy, of any score, forward and backward: it is right
/// by the definition in double, or refused with the same message on every rank. One rank may differ from the others in what
/// it asks for. The input is a list of choices (choices.hpp).
#include "choices.hpp"
#include "finding.hpp"

#include "../../tools/seqpar/choices.hpp"
#include "../../tools/seqpar/strategy_name.hpp"

#include <support/random.hpp>

#include <seqpar/attention.hpp>
#include <seqpar/comm/threads.hpp>
#include <seqpar/core/counted_memory.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/layout/any_layout.hpp>
#include <seqpar/score/alibi.hpp>
#include <seqpar/score/any_score.hpp>
#include <seqpar/score/bias.hpp>
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>
#include <seqpar/score/dropout.hpp>
#include <seqpar/score/score_function.hpp>
#include <seqpar/score/sink.hpp>
#include <seqpar/score/sliding_window.hpp>
#include <seqpar/score/softcap.hpp>
#include <seqpar/verify.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace seqpar;
using seqpar_fuzz::choices;
using seqpar_fuzz::expect_a_message;
using seqpar_fuzz::finding;

constexpr double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
constexpr std::array<double, 12> numbers{0.5, 2, 30, 0.01, -1, 0, -0.0, 7, -20, inf, -inf, nan};

/// What one rank, the odd one, asks for that the others do not.
enum class difference { none, a_row_more, heads, head_dim, batch, no_lse, scale, score, a_key_more };

struct attention_case {
    attention_shape shape;
    int ranks = 1, odd_rank = 0, workers = 1;
    unsigned seed = 0;
    difference odd = difference::none;
    any_layout layout;
    any_score score;
    any_kernel kernel;
    tool::strategy_name strategy;
    bool with_dlse = false;
    options how = {};
    std::vector<std::shared_ptr<const void>> arrays = {}; // that the score looks into

    [[nodiscard]] std::string text() const {
        std::ostringstream out;
        out << strategy.text() << " on " << ranks << ", " << layout.name() << ", " << score.name() << ", "
            << kernel.name() << ", batch " << shape.batch << " Nq " << shape.queries << " Nk " << shape.keys
            << " heads " << shape.heads << '/' << shape.kv_heads << " dim " << shape.dim << '/' << shape.dim_v
            << ", workers " << workers << (how.save == saving::keep ? ", keep" : "") << (with_dlse ? ", dlse" : "");
        if (how.scale) out << ", scale " << *how.scale;
        if (odd != difference::none) out << ", rank " << odd_rank << " differs by " << static_cast<int>(odd);
        return out.str();
    }
};

// ---- from bytes to a case --------------------------------------------------------------------------------------------

[[nodiscard]] std::string strategy_text(choices& c, int depth = 0) {
    const auto number = [&] { return std::to_string(c.whole(1, 9)); };
    switch (c.whole(0, 5)) {
    case 1: {
        std::string text = "ulysses";
        if (c.flag()) text += ":" + number();
        return depth < 3 && c.flag() ? text + "/" + strategy_text(c, depth + 1) : text;
    }
    case 2: {
        const std::string text = c.one_of(std::array{"all-gather", "all-gather:ring", "all-gather:doubling"});
        return c.flag() ? text + ":stream=" + number() : text;
    }
    case 3: {
        std::string text = c.one_of(std::array{"ring", "ring:bidirectional", "ring:double="});
        if (text.ends_with('=')) text += number();
        return text + c.one_of(std::array{"", ":pass=q", ":pass=auto"});
    }
    case 4:
        return "tree";
    case 5: {
        if (!c.flag()) return "grid";
        const std::string sides = "grid:" + number();
        return sides + "x" + number();
    }
    default:
        return "serial";
    }
}

[[nodiscard]] alignment alignment_of(choices& c) {
    const int kind = c.whole(0, 2);
    return kind == 0 ? alignment::top_left() : kind == 1 ? alignment::bottom_right() : alignment::at(c.whole(-80, 80));
}

/// Mostly as many as there are heads.
[[nodiscard]] std::vector<double> numbers_of_heads(choices& c, index_t heads) {
    const int off = c.whole(0, 15);
    const index_t count = off == 1 ? heads + 1 : off == 2 && heads > 0 ? heads - 1 : heads;
    std::vector<double> all(static_cast<std::size_t>(count));
    for (double& x : all) x = c.one_of(numbers);
    return all;
}

/// Mostly rising boundaries.
[[nodiscard]] std::vector<index_t> boundaries(choices& c, int count) {
    std::vector<index_t> all{c.whole(0, 15) == 1 ? 1 : 0};
    for (int d = 0; d < count; ++d) all.push_back(all.back() + c.whole(0, 40) - (c.whole(0, 15) == 1 ? 3 : 0));
    return all;
}

template <class E>
[[nodiscard]] any_score bias_of(choices& c, attention_case& to) {
    const attention_shape& s = to.shape;
    const typename bias<E>::shape of{c.flag() ? s.batch : 1, c.flag() ? s.heads : 1,
                                     s.queries + (c.whole(0, 15) == 1 ? 1 : 0), s.keys};
    const auto count = static_cast<std::size_t>(of.batch * of.heads * of.queries * of.keys);
    const auto random = testing::normal<float>({1, 1, 1, static_cast<index_t>(count)}, c.byte());
    const std::shared_ptr<E[]> array(new E[count + 1]);
    const float hidden = c.flag() ? -1.0F : 10.0F; // keys above are hidden: most, or none
    for (std::size_t n = 0; n < count; ++n) {
        const float x = random.data()[n];
        if constexpr (std::is_same_v<E, bool>)
            array.get()[n] = x <= hidden;
        else
            array.get()[n] = x > hidden ? -std::numeric_limits<E>::infinity() : static_cast<E>(x);
    }
    to.arrays.push_back(array);
    return bias<E>(array.get(), of);
}

[[nodiscard]] any_score part_of_score(choices& c, attention_case& to) {
    switch (c.whole(0, 11)) {
    case 1:
        return causal{alignment_of(c)};
    case 2: {
        const int left = c.whole(-1, 80), right = c.whole(-1, 80);
        return sliding_window{left, right, alignment_of(c)};
    }
    case 3: {
        const int count = c.whole(0, 4);
        const std::vector<index_t> of_q = boundaries(c, count);
        return c.flag() ? documents<>(of_q) : documents<>(of_q, boundaries(c, count));
    }
    case 4:
        return softcap(c.one_of(numbers));
    case 5: {
        std::vector<double> slopes = numbers_of_heads(c, to.shape.heads);
        return alibi(std::move(slopes), alignment_of(c));
    }
    case 6:
        return sink(numbers_of_heads(c, to.shape.heads));
    case 7:
        return bias_of<float>(c, to);
    case 8:
        return bias_of<bool>(c, to);
    case 9:
        return dropout(static_cast<double>(c.whole(-1, 11)) / 10, c.byte());
    case 10: {
        const auto curve = [](double x, index_t, index_t, index_t, index_t) { return x + 0.1 * x * x; };
        const auto slope = [](double x, index_t, index_t, index_t, index_t) { return 1 + 0.2 * x; };
        if (c.flag()) return score_function("curve", curve);
        return score_function("curve", curve, slope);
    }
    default:
        return full{};
    }
}

[[nodiscard]] attention_case case_of(choices& c) {
    const int ranks = c.whole(1, 9);
    const std::string strategy = strategy_text(c), layout = c.one_of(std::array{"contiguous", "zigzag", "striped"}),
                      kernel = c.one_of(std::array{"flash", "reference", "flash:baseline", "flash:avx2"});
    const index_t queries = c.whole(0, 70), keys = c.flag() ? queries : c.whole(0, 70);
    const index_t kv_heads = c.whole(1, 4), heads = c.whole(0, 15) == 1 ? c.whole(0, 9) : kv_heads * c.whole(1, 3);
    const index_t dim = c.whole(1, 20), dim_v = c.flag() ? dim : c.whole(1, 20);
    attention_case to{.shape = {c.whole(0, 15) == 1 ? 0 : c.whole(1, 2), queries, keys, heads, kv_heads, dim, dim_v},
                      .ranks = ranks,
                      .layout = tool::layout_named(layout),
                      .score = full{},
                      .kernel = tool::kernel_named(kernel),
                      .strategy = tool::strategy_name::parse(strategy)};
    to.with_dlse = c.flag();
    if (c.flag()) to.how.save = saving::keep;
    constexpr std::array<double, 7> scales{0, 0.6, -0.3, 1.5, 0.01, inf, nan};
    if (c.flag()) to.how.scale = c.one_of(scales);
    to.workers = c.whole(0, 3) == 1 ? 2 : 1;
    to.seed = c.byte();
    if (c.whole(0, 7) == 1) {
        to.odd = static_cast<difference>(c.whole(1, 8));
        to.odd_rank = c.whole(0, ranks - 1);
    }
    for (int parts = c.whole(0, 4); parts > 0; --parts) to.score = to.score & part_of_score(c, to);
    return to;
}

// ---- one rank of a case ----------------------------------------------------------------------------------------------

/// What this rank comes to: nothing, where all is right. @throws refusal
template <class T>
void attend_and_verify(const thread_communicator& world, const attention_case& c) {
    using A = accumulator_t<T>;
    attention_shape s = c.shape;
    options how = c.how;
    any_score score = c.score;
    const int rank = world.rank();
    index_t rows = c.layout.positions(rank, world.size(), s.queries).size(),
            keys = c.layout.positions(rank, world.size(), s.keys).size();
    if (rank == c.odd_rank) switch (c.odd) {
        case difference::none:
            break;
        case difference::a_row_more:
            ++rows;
            break;
        case difference::a_key_more:
            ++keys;
            break;
        case difference::heads:
            s.heads += s.kv_heads;
            break;
        case difference::head_dim:
            ++s.dim;
            break;
        case difference::batch:
            ++s.batch;
            break;
        case difference::no_lse:
            how.lse = false;
            break;
        case difference::scale:
            how.scale = 0.7;
            break;
        case difference::score:
            score = score & causal{alignment::at(1)};
            break;
        }
    const auto random = [&](const extents& e, unsigned what) {
        return testing::normal<T>(e, (c.seed * 16U + static_cast<unsigned>(rank)) * 8U + what);
    };
    const tensor<T> q = random({s.batch, rows, s.heads, s.dim}, 1), k = random({s.batch, keys, s.kv_heads, s.dim}, 2),
                    v = random({s.batch, keys, s.kv_heads, s.dim_v}, 3),
                    dout = random({s.batch, rows, s.heads, s.dim_v}, 4);
    tensor<A> dlse({s.batch, rows, s.heads, 1});
    copy(random({s.batch, rows, s.heads, 1}, 5).view(), dlse.view());
    counted_memory memory;
    how.memory = &memory;
    {
        attention attend{world,    c.strategy.on<thread_communicator>(),
                         c.layout, score,
                         c.kernel, span_backend<T>{},
                         how,      thread_pool(c.workers)};
        const report forward = verify(attend, q, k, v);
        if (!forward.passed) finding(c.text() + "\n" + forward.text());
        const gradient_report backward = verify_backward(
            attend, q, k, v, dout, c.with_dlse ? tensor_view<const A>(dlse.view()) : tensor_view<const A>{});
        if (!backward.passed) finding(c.text() + "\n" + backward.text());
    }
    if (memory.held() != 0) finding(c.text() + "\nholds " + std::to_string(memory.held()) + " bytes when it is gone");
}

template <class T>
void judge_case(const attention_case& c) {
    std::vector<std::string> refused(static_cast<std::size_t>(c.ranks));
    try {
        threads::run(c.ranks, [&](const thread_communicator& world) {
            try {
                attend_and_verify<T>(world, c);
            } catch (const refusal& why) {
                // Not passed on, or it would end the others before they have said theirs. One that waits for this rank
                // now does so until the fuzzer's time is up, which is a finding too.
                expect_a_message(why.what());
                refused[static_cast<std::size_t>(world.rank())] = why.what();
            }
        });
    } catch (const std::exception& other) {
        finding(c.text() + "\n" + other.what());
    }
    for (std::size_t rank = 1; rank < refused.size(); ++rank)
        if (refused[rank] != refused[0])
            finding(c.text() + "\nrank 0: '" + refused[0] + "', rank " + std::to_string(rank) + ": '" + refused[rank] +
                    "'");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    choices c(data, size);
    const int type = c.whole(0, 2);
    std::optional<attention_case> made;
    try {
        made.emplace(case_of(c));
    } catch (const refusal& why) { // an instruction set that is not here
        expect_a_message(why.what());
        return 0;
    }
    switch (type) {
    case 1:
        judge_case<double>(*made);
        break;
    case 2:
        judge_case<bfloat16>(*made);
        break;
    default:
        judge_case<float>(*made);
    }
    return 0;
}
