#pragma once

#include <seqpar/attention/options.hpp>
#include <seqpar/backend/span.hpp>
#include <seqpar/comm/self.hpp>
#include <seqpar/core/executor.hpp>
#include <seqpar/kernel/flash.hpp>
#include <seqpar/layout/contiguous.hpp>
#include <seqpar/score/full.hpp>
#include <seqpar/strategy/serial.hpp>

#include <concepts>
#include <tuple>
#include <type_traits>
#include <utility>

namespace seqpar::detail {

/// A kind of policy: how it is recognised, and what stands where none is given. One overload of is_policy for each.
struct strategy_kind {
    using fallback = serial;
};
struct communicator_kind {
    using fallback = self_communicator;
};
struct backend_kind {
    using fallback = span_backend<float>;
};
struct score_kind {
    using fallback = full;
};
struct layout_kind {
    using fallback = contiguous;
};
struct kernel_kind {
    using fallback = flash;
};
struct executor_kind {
    using fallback = inline_executor;
};
struct options_kind {
    using fallback = options;
};

template <class P, class Kind>
inline constexpr bool is_policy = false;
template <class P>
inline constexpr bool is_policy<P, strategy_kind> = strategy<P>;
template <class P>
inline constexpr bool is_policy<P, communicator_kind> = communicator<P>;
template <class P>
inline constexpr bool is_policy<P, backend_kind> = tensor_backend<P>;
template <class P>
inline constexpr bool is_policy<P, score_kind> = score<P>;
template <class P>
inline constexpr bool is_policy<P, layout_kind> = layout<P>;
template <class P>
inline constexpr bool is_policy<P, kernel_kind> = kernel<P, kernel_element_t<P, float>>;
template <class P>
inline constexpr bool is_policy<P, executor_kind> = executor<P>;
template <class P>
inline constexpr bool is_policy<P, options_kind> = std::same_as<P, options>;

template <class P>
inline constexpr bool is_some_policy =
    is_policy<P, strategy_kind> || is_policy<P, communicator_kind> || is_policy<P, backend_kind> ||
    is_policy<P, score_kind> || is_policy<P, layout_kind> || is_policy<P, kernel_kind> || is_policy<P, executor_kind> ||
    is_policy<P, options_kind>;

/// Fails to compile, and names the type in doing so.
template <class NotAPolicy>
struct must_be_a_policy {
    static_assert(is_some_policy<NotAPolicy>,
                  "attention<...> was given a type that is no policy: it models none of communicator, strategy, "
                  "tensor_backend, score, layout, kernel, executor, and is not options");
    static constexpr bool value = true;
};

template <class Kind, class... Policies>
inline constexpr int count_of = (0 + ... + static_cast<int>(is_policy<Policies, Kind>));

/// The one of the policies that is of that kind, or the kind's fallback.
template <class Kind, class... Policies>
struct pick {
    using type = typename Kind::fallback;
};
template <class Kind, class First, class... Rest>
struct pick<Kind, First, Rest...>
    : std::conditional_t<is_policy<First, Kind>, std::type_identity<First>, pick<Kind, Rest...>> {};

template <class Kind, class... Policies>
using pick_t = typename pick<Kind, Policies...>::type;

/// The value of that kind among those given, as a Wanted; a default one if there is none.
template <class Kind, class Wanted, class... Given>
[[nodiscard]] Wanted choose(const std::tuple<Given...>& given) {
    if constexpr (count_of<Kind, Given...> == 1) {
        using type = pick_t<Kind, Given...>;
        static_assert(
            std::is_convertible_v<type, Wanted>,
            "attention: the value given for a policy is of another type than the policy that the template names");
        return std::get<type>(given);
    } else {
        static_assert(std::is_default_constructible_v<Wanted>,
                      "attention: a policy whose type has no default was given no value");
        return Wanted{};
    }
}

} // namespace seqpar::detail
