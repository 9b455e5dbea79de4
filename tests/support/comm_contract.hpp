/// @file
/// What every communicator must do. contract::all() lists the checks; each is run on every rank of a group, with a
/// communicator of any model. A check fails by throwing at its end, never in the middle: a rank that left early would
/// leave the others waiting, and assertions of Catch2 are not for several threads.
#pragma once

#include <seqpar/comm/collectives.hpp>
#include <seqpar/comm/communicator.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace contract {

using bytes = std::vector<std::byte>;

/// What a call throws; empty if it throws nothing. Matchers of texts differ between the versions of Catch2.
template <class Error = std::exception, class F>
std::string text_thrown_by(const F& f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return {};
}

inline bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

/// Collects what a rank found wrong.
class findings {
public:
    explicit findings(std::string where) : where_(std::move(where)) {}

    template <class... Parts>
    void expect(bool holds, const Parts&... parts) {
        if (holds || ++wrong_ > 3) {
            return;
        }
        std::ostringstream text;
        (text << ... << parts);
        text_ += "\n  " + text.str();
    }

    void close() const {
        if (wrong_ != 0) {
            throw std::runtime_error(where_ + ": " + std::to_string(wrong_) + " wrong" + text_);
        }
    }

private:
    std::string where_, text_;
    int wrong_ = 0;
};

template <class C>
findings findings_of(C& c, const char* check) {
    return findings(std::string(check) + ", rank " + std::to_string(c.rank()) + " of " + std::to_string(c.size()));
}

/// What `from` tells `to` in its `n`-th message of some exchange: nothing about it can be guessed from another's.
inline bytes letter(int from, int to, int n, std::size_t size) {
    std::seed_seq seed{from, to, n, 20'241};
    std::mt19937_64 random(seed);
    bytes text(size);
    for (std::byte& each : text) {
        each = static_cast<std::byte>(random() >> 56);
    }
    return text;
}

/// Uneven sizes, some of them zero, agreed between the two sides.
inline std::size_t length(int from, int to, int n) {
    const auto mixed = static_cast<std::size_t>(from * 7919 + to * 104'729 + n * 1'299'709 + 12'345);
    return mixed % 5 == 0 ? 0 : (mixed % 97) * ((mixed / 97) % 53) + 1;
}

inline seqpar::outgoing out_of(const bytes& b) { return {b.data(), b.size()}; }
inline seqpar::incoming in_to(bytes& b) { return {b.data(), b.size()}; }
inline bytes blank(std::size_t size) { return bytes(size, std::byte{0xEE}); }

/// Every rank talks with every other, and itself, one exchange after the other.
template <class C>
void check_exchange(C c) {
    findings found = findings_of(c, "exchange");
    const int me = c.rank(), size = c.size();
    for (int n = 0; n < 3; ++n) {
        for (int shift = 0; shift < size; ++shift) {
            const int to = (me + shift) % size, from = (me - shift + size) % size;
            const bytes sent = letter(me, to, n, length(me, to, n));
            bytes got = blank(length(from, me, n));
            auto request = c.exchange(out_of(sent), to, in_to(got), from);
            request.wait();
            found.expect(got == letter(from, me, n, got.size()), "message ", n, " from ", from);
            request.wait(); // again: no effect
            found.expect(request.test(), "test() after wait()");
        }
    }
    found.close();
}

/// Sends apart from receives, several under way, waited for in the order opposite to that of posting.
template <class C>
void check_outstanding(C c) {
    constexpr int count = 7;
    findings found = findings_of(c, "outstanding");
    const int me = c.rank(), size = c.size();
    const int to = (me + 1) % size, from = (me - 1 + size) % size;
    std::vector<bytes> sent, got;
    for (int n = 0; n < count; ++n) {
        sent.push_back(letter(me, to, n, 100 + static_cast<std::size_t>(n)));
        got.push_back(blank(100 + static_cast<std::size_t>(n)));
    }
    std::vector<seqpar::request_t<C>> requests;
    for (int n = 0; n < count; ++n) {
        const auto i = static_cast<std::size_t>(n);
        // Odd ranks send first, even ranks receive first; one message is both.
        if (n == 3) {
            requests.push_back(c.exchange(out_of(sent[i]), to, in_to(got[i]), from));
        } else if (me % 2 == 1) {
            requests.push_back(c.exchange(out_of(sent[i]), to, {}, from));
            requests.push_back(c.exchange({}, to, in_to(got[i]), from));
        } else {
            requests.push_back(c.exchange({}, to, in_to(got[i]), from));
            requests.push_back(c.exchange(out_of(sent[i]), to, {}, from));
        }
    }
    for (auto request = requests.rbegin(); request != requests.rend(); ++request) {
        request->wait();
    }
    for (int n = 0; n < count; ++n) {
        const bytes& text = got[static_cast<std::size_t>(n)];
        found.expect(text == letter(from, me, n, text.size()), "message ", n, " from ", from);
    }
    found.close();
}

/// test() comes true without a wait, requests move, and a default one has nothing to wait for.
template <class C>
void check_requests(C c) {
    findings found = findings_of(c, "requests");
    const int me = c.rank(), size = c.size();
    const int to = (me + 1) % size, from = (me - 1 + size) % size;
    seqpar::request_t<C> nothing;
    found.expect(nothing.test(), "test() of a default request");
    nothing.wait();
    auto silent = c.exchange({}, to, {}, from);
    found.expect(silent.test(), "test() of an exchange of no bytes");
    silent.wait();

    const bytes sent = letter(me, to, 0, 50'000);
    bytes got = blank(50'000);
    auto first = c.exchange({}, to, in_to(got), from);
    auto second = std::move(first);
    found.expect(first.test(), "test() of a request that was moved from"); // NOLINT
    first.wait();
    nothing = std::move(second);
    second.wait(); // NOLINT
    auto last = c.exchange(out_of(sent), to, {}, from);
    while (!nothing.test()) {
        std::this_thread::yield();
    }
    nothing.wait();
    last.wait();
    found.expect(got == letter(from, me, 0, got.size()), "message from ", from);
    found.close();
}

/// Megabytes, so that no transport's own buffers hide an order of waits that would block.
template <class C>
void check_large(C c) {
    findings found = findings_of(c, "large");
    const int me = c.rank(), size = c.size();
    const int to = (me + 1) % size, from = (me - 1 + size) % size;
    const auto large = [](int rank, int n) {
        return std::size_t{1'500'000} + static_cast<std::size_t>(rank * 1001 + n);
    };
    const bytes sent0 = letter(me, to, 0, large(me, 0)), sent1 = letter(me, to, 1, large(me, 1));
    bytes got0 = blank(large(from, 0)), got1 = blank(large(from, 1));
    auto r0 = c.exchange(out_of(sent0), to, in_to(got0), from);
    auto r1 = c.exchange(out_of(sent1), to, in_to(got1), from);
    r1.wait();
    r0.wait();
    found.expect(got0 == letter(from, me, 0, got0.size()), "first message from ", from);
    found.expect(got1 == letter(from, me, 1, got1.size()), "second message from ", from);
    found.close();
}

/// Groups inside groups: sizes, ranks, and that messages stay inside.
template <class C>
void check_split(C c) {
    findings found = findings_of(c, "split");
    const int me = c.rank(), size = c.size();

    // Columns of 2, ordered backwards.
    C half = c.split(me % 2, -me);
    const int members = (size - me % 2 + 1) / 2;
    found.expect(half.size() == members, "half: size ", half.size(), ", not ", members);
    found.expect(half.rank() == members - 1 - me / 2, "half: rank ", half.rank());
    check_exchange(half);

    // The same again, split once more, and the outer groups still talk in between. Equal keys: ordered by rank.
    C third = half.split(half.rank() / 3, 0);
    found.expect(third.rank() == half.rank() % 3, "third: rank ", third.rank());
    found.expect(third.size() == std::min(3, half.size() - half.rank() / 3 * 3), "third: size ", third.size());
    check_exchange(third);
    check_exchange(c);
    C copy = third;
    check_outstanding(copy);

    // Everyone alone.
    C alone = c.split(me, 0);
    found.expect(alone.rank() == 0 && alone.size() == 1, "alone: rank ", alone.rank(), " of ", alone.size());
    check_exchange(alone);
    found.close();
}

/// Two duplicates at once: what is sent on one is not received on the other, whatever the order.
template <class C>
void check_duplicates(C c) {
    findings found = findings_of(c, "duplicates");
    const int me = c.rank(), size = c.size();
    const int to = (me + 1) % size, from = (me - 1 + size) % size;
    C a = c.split(0, me), b = c.split(0, me);
    found.expect(a.rank() == me && a.size() == size, "a duplicate has the same ranks");
    const bytes for_a = letter(me, to, 0, 3000), for_b = letter(me, to, 1, 3000), for_c = letter(me, to, 2, 3000);
    bytes from_a = blank(3000), from_b = blank(3000), from_c = blank(3000);
    auto ra = a.exchange({}, to, in_to(from_a), from);
    auto rb = b.exchange({}, to, in_to(from_b), from);
    auto rc = c.exchange({}, to, in_to(from_c), from);
    auto sc = c.exchange(out_of(for_c), to, {}, from);
    auto sb = b.exchange(out_of(for_b), to, {}, from);
    auto sa = a.exchange(out_of(for_a), to, {}, from);
    sa.wait(), ra.wait(), rb.wait(), rc.wait(), sb.wait(), sc.wait();
    found.expect(from_a == letter(from, me, 0, 3000), "message on a");
    found.expect(from_b == letter(from, me, 1, 3000), "message on b");
    found.expect(from_c == letter(from, me, 2, 3000), "message on c");
    found.close();
}

/// A request that is destroyed before its message came leaves its buffer alone, and the group usable.
template <class C>
void check_withdrawal(C c) {
    findings found = findings_of(c, "withdrawal");
    const int me = c.rank(), size = c.size();
    C aside = c.split(0, me);
    bytes never = blank(64);
    {
        auto request = aside.exchange({}, 0, in_to(never), (me + 1) % size);
        found.expect(!request.test(), "test() of a message that nobody sends");
    }
    seqpar::collective::barrier(c);
    found.expect(never == blank(64), "the buffer of a withdrawn receive");
    check_exchange(c);
    found.close();
}

template <class C>
void check_all_to_all(C c) {
    findings found = findings_of(c, "all_to_all");
    const int me = c.rank();
    for (int n = 0; n < 4; ++n) {
        std::vector<bytes> sent, got;
        std::vector<seqpar::outgoing> out;
        std::vector<seqpar::incoming> in;
        for (int r = 0; r < c.size(); ++r) {
            sent.push_back(letter(me, r, n, length(me, r, n)));
            got.push_back(blank(length(r, me, n)));
        }
        for (std::size_t r = 0; r < sent.size(); ++r) {
            out.push_back(out_of(sent[r]));
            in.push_back(in_to(got[r]));
        }
        seqpar::collective::all_to_all(c, out, in);
        for (int r = 0; r < c.size(); ++r) {
            const bytes& text = got[static_cast<std::size_t>(r)];
            found.expect(text == letter(r, me, n, text.size()), "part of rank ", r, ", time ", n);
        }
    }
    found.close();
}

template <class C>
void check_all_gather(C c) {
    findings found = findings_of(c, "all_gather");
    const int me = c.rank(), size = c.size();
    for (int n = 0; n < 4; ++n) {
        // One array with a hole between the parts, which must stay as it is.
        std::vector<std::size_t> first;
        std::size_t end = 1;
        for (int r = 0; r < size; ++r) {
            first.push_back(end);
            end += length(r, 0, n) + 1;
        }
        bytes expected = blank(end);
        for (int r = 0; r < size; ++r) {
            const bytes text = letter(r, 0, n, length(r, 0, n));
            std::copy(text.begin(), text.end(),
                      expected.begin() + static_cast<std::ptrdiff_t>(first[static_cast<std::size_t>(r)]));
        }
        const bytes mine = letter(me, 0, n, length(me, 0, n));
        for (const bool in_place : {false, true}) {
            bytes got = blank(end);
            std::vector<seqpar::incoming> in;
            for (int r = 0; r < size; ++r) {
                in.push_back({got.data() + first[static_cast<std::size_t>(r)], length(r, 0, n)});
            }
            std::byte* own = in[static_cast<std::size_t>(me)].data;
            if (in_place) {
                std::copy(mine.begin(), mine.end(), own);
            }
            seqpar::collective::all_gather(c, in_place ? seqpar::outgoing{own, mine.size()} : out_of(mine), in);
            found.expect(got == expected, "time ", n, in_place ? ", in place" : "");
        }
    }
    found.close();
}

template <class C>
void check_all_gather_doubling(C c) {
    findings found = findings_of(c, "all_gather_doubling");
    const int me = c.rank();
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{24}, std::size_t{1001}}) {
        bytes expected;
        for (int r = 0; r < c.size(); ++r) {
            const bytes text = letter(r, 0, 0, size);
            expected.insert(expected.end(), text.begin(), text.end());
        }
        const bytes mine = letter(me, 0, 0, size);
        bytes got = blank(expected.size());
        seqpar::collective::all_gather_doubling(c, out_of(mine), got.data());
        found.expect(got == expected, size, " bytes a rank");

        got = blank(expected.size());
        std::byte* own = got.data() + static_cast<std::size_t>(me) * size;
        std::copy(mine.begin(), mine.end(), own);
        seqpar::collective::all_gather_doubling(c, {own, size}, got.data());
        found.expect(got == expected, size, " bytes a rank, in place");
    }
    found.close();
}

/// Blocks of many sizes, none included, passed on and doubled: the same blocks on every rank.
template <class C>
void check_all_gather_of_blocks(C c) {
    findings found = findings_of(c, "all_gather of blocks");
    const int me = c.rank(), size = c.size();
    for (int n = 0; n < 4; ++n) {
        std::vector<std::size_t> sizes;
        std::size_t end = 0;
        for (int r = 0; r < size; ++r) {
            sizes.push_back(length(r, 0, n));
        }
        bytes rotated; // the own block, then those of the ranks after this one
        for (int i = 0; i < size; ++i) {
            const int r = (me + i) % size;
            const bytes text = letter(r, 0, n, sizes[static_cast<std::size_t>(r)]);
            rotated.insert(rotated.end(), text.begin(), text.end());
        }
        bytes got = blank(rotated.size());
        const auto own = static_cast<std::ptrdiff_t>(sizes[static_cast<std::size_t>(me)]);
        std::copy(rotated.begin(), rotated.begin() + own, got.begin());
        seqpar::collective::all_gather_doubling(c, std::span<const std::size_t>(sizes), got.data());
        found.expect(got == rotated, "doubling, time ", n);

        got = blank(rotated.size());
        std::copy(rotated.begin(), rotated.begin() + own, got.begin());
        std::vector<seqpar::incoming> everyone(sizes.size());
        for (int i = 0; i < size; ++i) {
            const auto r = static_cast<std::size_t>((me + i) % size);
            everyone[r] = {got.data() + end, sizes[r]};
            end += sizes[r];
        }
        seqpar::collective::all_gather_ring(c, std::span<const seqpar::incoming>(everyone));
        found.expect(got == rotated, "ring, time ", n);
    }
    found.close();
}

/// An affine map of the integers modulo 2^64. Composition is associative and not commutative, so it shows the order.
struct affine {
    std::uint64_t factor = 1, offset = 0;
    friend bool operator==(const affine&, const affine&) = default;
};

inline affine affine_of(int from, int to, std::size_t i) {
    std::mt19937_64 random(static_cast<std::uint64_t>(from) * 1'000'003 + static_cast<std::uint64_t>(to) * 4099 + i);
    return {random() | 1, random()};
}

template <class C>
void check_reduce_scatter(C c) {
    findings found = findings_of(c, "reduce_scatter");
    const int me = c.rank(), size = c.size();
    const auto count = [](int rank) { return rank % 3 == 1 ? std::size_t{0} : static_cast<std::size_t>(5 + 3 * rank); };
    std::vector<std::vector<affine>> sent;
    std::vector<std::span<const affine>> parts;
    for (int r = 0; r < size; ++r) {
        sent.emplace_back();
        for (std::size_t i = 0; i < count(r); ++i) {
            sent.back().push_back(affine_of(me, r, i));
        }
    }
    for (const std::vector<affine>& part : sent) {
        parts.emplace_back(part);
    }
    const auto compose = [](affine& into, const affine& from) {
        into = {into.factor * from.factor, into.offset * from.factor + from.offset};
    };
    std::vector<affine> expected;
    for (std::size_t i = 0; i < count(me); ++i) {
        affine fold = affine_of(0, me, i);
        for (int r = 1; r < size; ++r) {
            compose(fold, affine_of(r, me, i));
        }
        expected.push_back(fold);
    }

    std::vector<affine> mine(count(me));
    seqpar::collective::reduce_scatter<affine>(c, parts, mine, compose);
    found.expect(mine == expected, "element by element");

    mine.assign(count(me), affine{});
    seqpar::collective::reduce_scatter<affine>(c, parts, mine,
                                               [&](std::span<affine> into, std::span<const affine> from) {
                                                   for (std::size_t i = 0; i < into.size(); ++i) {
                                                       compose(into[i], from[i]);
                                                   }
                                               });
    found.expect(mine == expected, "all at once");

    std::vector<affine>& own = sent[static_cast<std::size_t>(me)];
    seqpar::collective::reduce_scatter<affine>(c, parts, std::span<affine>(own), compose);
    found.expect(own == expected, "into the own part");
    found.close();
}

template <class C>
void check_barrier(C c) {
    for (int n = 0; n < 5; ++n) {
        seqpar::collective::barrier(c);
    }
}

/// Calls run(name, check) for every check of the contract; check(c) is what a rank does.
template <class Run>
void all(const Run& run) {
    run("exchange", [](auto c) { check_exchange(c); });
    run("outstanding", [](auto c) { check_outstanding(c); });
    run("requests", [](auto c) { check_requests(c); });
    run("large", [](auto c) { check_large(c); });
    run("split", [](auto c) { check_split(c); });
    run("duplicates", [](auto c) { check_duplicates(c); });
    run("withdrawal", [](auto c) { check_withdrawal(c); });
    run("all_to_all", [](auto c) { check_all_to_all(c); });
    run("all_gather", [](auto c) { check_all_gather(c); });
    run("all_gather_doubling", [](auto c) { check_all_gather_doubling(c); });
    run("all_gather of blocks", [](auto c) { check_all_gather_of_blocks(c); });
    run("reduce_scatter", [](auto c) { check_reduce_scatter(c); });
    run("barrier", [](auto c) { check_barrier(c); });
}

} // namespace contract
