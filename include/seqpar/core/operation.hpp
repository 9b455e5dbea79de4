#pragma once

#include <array>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>

namespace seqpar::detail {

class operation_scope;

/// What failed on a thread: the operations that an exception has left, outermost first.
struct failed_operation {
    std::array<char, 240> text{}; // no string: memory may be what has failed
    std::exception_ptr cause;     // null: not known yet
};

inline thread_local constinit const operation_scope* operation_now = nullptr;
inline thread_local constinit bool operation_has_failed = false;
[[nodiscard]] inline failed_operation& last_failed_operation() noexcept {
    static thread_local failed_operation last;
    return last;
}

/// Says what a thread is doing while it lives, for messages of what fails meanwhile: "ring forward, step 2". Costs two
/// stores and is found by nobody who does not fail. `name` must outlive it.
class operation_scope {
public:
    explicit operation_scope(const char* name, int number = -1) noexcept
        : name_(name), number_(number), outer_(operation_now), unwinding_(std::uncaught_exceptions()) {
        if (outer_ == nullptr) operation_has_failed = false;
        operation_now = this;
    }
    operation_scope(const operation_scope&) = delete;
    operation_scope& operator=(const operation_scope&) = delete;
    ~operation_scope() {
        // The innermost that an exception leaves takes note of all.
        if (std::uncaught_exceptions() > unwinding_ && !operation_has_failed) {
            failed_operation& last = last_failed_operation();
            write(last.text.data(), last.text.size());
            last.cause = nullptr;
            operation_has_failed = true;
        }
        operation_now = outer_;
    }

    /// Writes the names of the operations under way, at most `size` characters with the zero. Returns how many.
    std::size_t write(char* into, std::size_t size) const noexcept {
        std::size_t at = outer_ != nullptr ? outer_->write(into, size) : 0;
        const auto add = [&](const char* format, auto... values) {
            const int written = std::snprintf(into + at, size - at, format, values...);
            if (written > 0)
                at = at + static_cast<std::size_t>(written) < size ? at + static_cast<std::size_t>(written) : size - 1;
        };
        if (at != 0) add("%s", ", ");
        if (number_ < 0)
            add("%s", name_);
        else
            add("%s %d", name_, number_);
        return at;
    }

private:
    const char* name_;
    int number_;
    const operation_scope* outer_;
    int unwinding_;
};

/// The operations that this thread is in, "ring forward, step 2"; empty outside of any.
[[nodiscard]] inline std::string operation_text() {
    std::array<char, 240> text{};
    if (operation_now != nullptr) operation_now->write(text.data(), text.size());
    return text.data();
}

/// " (in ring forward, step 2)"; empty outside of any operation.
[[nodiscard]] inline std::string in_operation() {
    const std::string text = operation_text();
    return text.empty() ? text : " (in " + text + ')';
}

/// Calls f under a name. What f throws passes on as it is, and is known as that operation's.
template <class F>
decltype(auto) named_operation(const char* name, F&& f) {
    try {
        const operation_scope scope(name);
        return std::forward<F>(f)();
    } catch (...) {
        if (operation_has_failed) last_failed_operation().cause = std::current_exception();
        throw;
    }
}

/// In a handler: what the exception says and, where that is known and not said already, the operation that it left.
[[nodiscard]] inline std::string failure_text() {
    const std::exception_ptr cause = std::current_exception();
    std::string text;
    try {
        throw;
    } catch (const std::exception& e) {
        text = e.what();
    } catch (...) {
        text = "an exception that is no std::exception";
    }
    failed_operation& last = last_failed_operation();
    if (last.cause == nullptr || last.cause != cause) return text;
    const std::string where = std::string("(in ") + last.text.data() + ')';
    return text.find(where) == std::string::npos ? text + ' ' + where : text;
}

/// Lets go of the exception that failure_text() knows.
inline void forget_failed_operation() noexcept { last_failed_operation().cause = nullptr; }

} // namespace seqpar::detail
