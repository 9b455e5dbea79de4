/// What works with what, asked of the concepts that the library itself compiles by, and printed as docs/capabilities.md.
/// The test house.capabilities fails where that page says something else; `./dev capabilities` writes it.
#include <seqpar/comm/metered.hpp>
#include <seqpar/core/element.hpp>
#include <seqpar/kernel/any_kernel.hpp>
#include <seqpar/kernel/reference.hpp>
#include <seqpar/score/dropout.hpp>
#include <seqpar/seqpar.hpp>

#include <algorithm>
#include <cstdio>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace seqpar;

namespace {

using function = double (*)(double, index_t, index_t, index_t, index_t);

template <class T>
struct entry {
    using type = T;
    const char* name;
};
template <class... T>
struct list {
    std::tuple<entry<T>...> all;
    explicit list(entry<T>... of) : all(of...) {}
    template <class F>
    void each(const F& f) const {
        std::apply([&](const auto&... e) { (f(e), ...); }, all);
    }
};
template <class E>
using type_of = typename E::type;

/// forward: the strategy runs on the communicator, and the kernel takes the element type and the score.
template <class S, class C, class K, class T, class Score>
constexpr bool forward_works = strategy_on<S, C>&& kernel<K, kernel_element_t<K, T>, Score>;

/// backward: all of them have one.
template <class S, class C, class K, class T, class Score>
constexpr bool backward_works = [] {
    using E = kernel_element_t<K, T>;
    if constexpr (forward_works<S, C, K, T, Score>)
        return differentiable_score<Score> && differentiable_kernel<K, E, Score> &&
               differentiable<decltype(std::declval<const S&>().on(std::declval<C&>())), E, local_attention<K, Score>>;
    else
        return false;
}();

void print_row(const std::vector<std::string>& cells) {
    std::fputs("|", stdout);
    for (const std::string& cell : cells) std::printf(" %s |", cell.c_str());
    std::fputs("\n", stdout);
}
void print_head(const std::vector<std::string>& cells) {
    print_row(cells);
    print_row(std::vector<std::string>(cells.size(), "---"));
}

[[nodiscard]] std::string passes(bool forward, bool backward) {
    return forward ? backward ? "forward, backward" : "forward" : "-";
}

/// What a score has beyond the two questions that a mask answers.
template <class S>
[[nodiscard]] std::string changes_of() {
    std::string all;
    const auto add = [&](bool has, const char* what) {
        if (has) all += (all.empty() ? "" : ", ") + std::string(what);
    };
    add(
        requires(const S& s) { s.stages(); }, "scores");
    add(
        requires(const S& s) { s.sinks(); }, "the sum");
    add(
        requires(const S& s) { s.drops(); }, "weights");
    add(
        requires(const S& s) { s.slopes(); }, "gives dslopes");
    add(
        requires(const S& s) { s.sinks(); }, "gives dsinks");
    return all.empty() ? "-" : all;
}
template <class S>
[[nodiscard]] constexpr bool hides() {
    return std::is_same_v<S, bias<bool>> || std::is_same_v<S, bias<float>> ||
           (!std::is_same_v<S, full> && !std::is_base_of_v<full, S>);
}

/// How many of the combinations work, as "all 90" or "60 of 90".
struct tally {
    int all = 0, forward = 0, backward = 0;
    void add(bool f, bool b) { ++all, forward += f, backward += b; }
    [[nodiscard]] static std::string of(int some, int all) {
        return (some == all ? "all " : std::to_string(some) + " of ") + std::to_string(all);
    }
};

} // namespace

int main() {
    const list strategies{entry<serial>{"serial"},
                          entry<ulysses<>>{"ulysses"},
                          entry<all_gather>{"all_gather"},
                          entry<ring>{"ring"},
                          entry<tree>{"tree"},
                          entry<grid>{"grid"},
                          entry<ulysses<ring>>{"ulysses over ring"},
                          entry<ulysses<all_gather>>{"ulysses over all_gather"},
                          entry<ulysses<tree>>{"ulysses over tree"},
                          entry<ulysses<grid>>{"ulysses over grid"},
                          entry<ulysses<ulysses<ring>>>{"ulysses over ulysses over ring"}};
    const list scores{entry<full>{"full"},
                      entry<causal>{"causal"},
                      entry<sliding_window>{"sliding_window"},
                      entry<documents<>>{"documents"},
                      entry<softcap>{"softcap"},
                      entry<alibi>{"alibi"},
                      entry<sink>{"sink"},
                      entry<bias<float>>{"bias of numbers"},
                      entry<bias<bool>>{"bias of bool: a mask"},
                      entry<dropout>{"dropout"},
                      entry<score_function<function, function>>{"score_function with a derivative"},
                      entry<score_function<function>>{"score_function without"},
                      entry<any_score>{"any_score, or a composition"}};
    const list communicators{entry<self_communicator>{"self_communicator"},
                             entry<thread_communicator>{"thread_communicator"},
                             entry<metered<thread_communicator>>{"metered of them"}};
    const list kernels{entry<flash>{"flash"}, entry<reference>{"reference"}, entry<reproducible>{"reproducible"},
                       entry<any_kernel>{"any_kernel"}};
    const list elements{entry<float>{"float"}, entry<double>{"double"}, entry<bfloat16>{"bfloat16"}};

    std::puts("# What works with what\n");
    std::puts("Generated by tests/house/capabilities.cpp from the concepts that the library compiles by, and held to "
              "them by");
    std::puts(
        "the test house.capabilities. A combination that is not here does not compile, and says what is missing.\n");

    std::puts("## Strategies and communicators\n");
    std::vector<std::string> head{"strategy"};
    communicators.each([&](const auto& c) { head.push_back(c.name); });
    print_head(head);
    strategies.each([&](const auto& s) {
        std::vector<std::string> row{s.name};
        communicators.each([&](const auto& c) {
            using S = type_of<std::remove_cvref_t<decltype(s)>>;
            using C = type_of<std::remove_cvref_t<decltype(c)>>;
            row.push_back(passes(forward_works<S, C, flash, float, full>, backward_works<S, C, flash, float, full>));
        });
        print_row(row);
    });

    std::puts("\n## Scores and kernels\n");
    head = {"score", "hides keys", "changes"};
    kernels.each([&](const auto& k) { head.push_back(k.name); });
    print_head(head);
    scores.each([&](const auto& x) {
        using Asked = type_of<std::remove_cvref_t<decltype(x)>>;
        std::vector<std::string> row{x.name, hides<Asked>() ? "yes" : "-", changes_of<Asked>()};
        kernels.each([&](const auto& k) {
            using Score = type_of<std::remove_cvref_t<decltype(x)>>;
            using K = type_of<std::remove_cvref_t<decltype(k)>>;
            using S = std::conditional_t<std::is_same_v<K, any_kernel>, any_score, Score>; // which takes any_score
            row.push_back(
                passes(forward_works<serial, self_communicator, K, float, S>,
                       backward_works<serial, self_communicator, K, float, S> && differentiable_score<Score>));
        });
        print_row(row);
    });

    std::puts("\n## Every combination\n");
    head = {"strategy", "forward", "backward"};
    print_head(head);
    strategies.each([&](const auto& s) {
        using S = type_of<std::remove_cvref_t<decltype(s)>>;
        tally count;
        scores.each([&](const auto& x) {
            elements.each([&](const auto& e) {
                using Score = type_of<std::remove_cvref_t<decltype(x)>>;
                using T = type_of<std::remove_cvref_t<decltype(e)>>;
                count.add(forward_works<S, thread_communicator, flash, T, Score>,
                          backward_works<S, thread_communicator, flash, T, Score>);
                count.add(forward_works<S, thread_communicator, reference, T, Score>,
                          backward_works<S, thread_communicator, reference, T, Score>);
                count.add(forward_works<S, thread_communicator, reproducible, T, Score>,
                          backward_works<S, thread_communicator, reproducible, T, Score>);
            });
        });
        print_row({s.name, tally::of(count.forward, count.all), tally::of(count.backward, count.all)});
    });
    std::puts("\nEach counts the products of scores, the kernels flash, reference and reproducible, and float, "
              "double and");
    std::puts("bfloat16. Layouts, tensor backends and executors are asked nothing by a strategy or a kernel: each "
              "works with all of the above.");
}
