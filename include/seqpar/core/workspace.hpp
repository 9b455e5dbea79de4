#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <map>
#include <memory_resource>
#include <vector>

namespace seqpar {

/// Memory that is lent again and again: what a scheme gives back waits for its next call, which asks for the same. After a few
/// calls of a kind nothing is asked of `source` any more, and no page is touched for the first time.
///
/// Until all has been given back for the first time it passes each block on from `source` and back, and only takes note of the
/// most that was lent at one time. From then on it holds one piece of that size, and what blocks of different sizes leave
/// between them: seldom more than a quarter. One rank's: one thread at a time.
///
/// O(pieces + gaps) a block: a few dozen.
class workspace final : public std::pmr::memory_resource {
public:
    explicit workspace(std::pmr::memory_resource* source = std::pmr::get_default_resource()) noexcept
        : source_(source) {}
    workspace(const workspace&) = delete;
    workspace& operator=(const workspace&) = delete;
    ~workspace() override { release(); }

    /// Gives back what waits.
    void release() noexcept {
        std::erase_if(pieces_, [this](const piece& p) { return p.lent == 0 && give_back(p); });
    }

    [[nodiscard]] std::size_t lent() const noexcept { return lent_; } ///< bytes
    [[nodiscard]] std::size_t held() const noexcept { return held_; } ///< of `source`: lent and waiting

private:
    static constexpr std::size_t alignment = 64;

    using gaps = std::map<std::size_t, std::size_t>; // where they begin, and their sizes
    struct piece {                                   // of `source`
        std::byte* begin;
        std::size_t size, lent;
        gaps between;
    };

    [[nodiscard]] static std::size_t rounded(std::size_t bytes) noexcept {
        return std::max((bytes + alignment - 1) / alignment, std::size_t{1}) * alignment;
    }

    void* do_allocate(std::size_t bytes, std::size_t wanted) override {
        if (wanted > alignment) return source_->allocate(bytes, wanted);
        const std::size_t size = rounded(bytes);
        keep_spare_for_one_more();
        piece* best = nullptr; // the smallest gap that it fits
        gaps::iterator where;
        for (piece& p : pieces_)
            for (auto gap = p.between.begin(); gap != p.between.end(); ++gap)
                if (gap->second >= size && (best == nullptr || gap->second < where->second)) best = &p, where = gap;
        if (best != nullptr) return take(*best, where, size);
        if (held_ + size > std::max(most_, lent_ + size)) release();
        add_piece(pieces_.empty() ? std::max(size, at_once_) : size);
        return take(pieces_.back(), pieces_.back().between.begin(), size);
    }

    void do_deallocate(void* block, std::size_t bytes, std::size_t wanted) override {
        if (wanted > alignment) return source_->deallocate(block, bytes, wanted);
        const std::size_t size = rounded(bytes);
        std::byte* const at = static_cast<std::byte*>(block);
        piece& p = *std::find_if(pieces_.begin(), pieces_.end(),
                                 [at](const piece& x) { return x.begin <= at && at < x.begin + x.size; });
        gaps::node_type node = std::move(spare_.back());
        spare_.pop_back(), --blocks_;
        node.key() = static_cast<std::size_t>(at - p.begin), node.mapped() = size;
        auto gap = p.between.insert(std::move(node)).position;
        if (const auto next = std::next(gap); next != p.between.end() && gap->first + gap->second == next->first) {
            gap->second += next->second;
            keep(p.between.extract(next));
        }
        if (gap != p.between.begin())
            if (const auto before = std::prev(gap); before->first + before->second == gap->first) {
                before->second += gap->second;
                keep(p.between.extract(gap));
            }
        p.lent -= size, lent_ -= size;
        const bool first = at_once_ == 0;
        if (lent_ == 0 && (first || pieces_.size() > 1)) at_once_ = first ? most_ : std::max(most_, held_);
        if (first || (lent_ == 0 && pieces_.size() > 1)) release();
    }

    [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

    void add_piece(std::size_t size) {
        pieces_.reserve(pieces_.size() + 1);
        piece p{nullptr, size, 0, {}};
        p.between.emplace(0, size);
        p.begin = static_cast<std::byte*>(source_->allocate(size, alignment)); // last, so that it is not lost
        held_ += size;
        pieces_.push_back(std::move(p));
    }
    /// A block that comes back may leave a gap, and must not ask for memory to say so: it could not tell that there is none.
    void keep_spare_for_one_more() {
        spare_.reserve(blocks_ + 1);
        for (gaps made; spare_.size() < blocks_ + 1;) {
            made.emplace(0, 0);
            spare_.push_back(made.extract(made.begin()));
        }
    }
    void keep(gaps::node_type node) noexcept {
        if (spare_.size() < spare_.capacity()) spare_.push_back(std::move(node));
    }
    bool give_back(const piece& p) noexcept {
        source_->deallocate(p.begin, p.size, alignment);
        held_ -= p.size;
        return true;
    }
    [[nodiscard]] void* take(piece& p, gaps::iterator gap, std::size_t size) noexcept {
        const std::size_t at = gap->first, left = gap->second - size;
        gaps::node_type node = p.between.extract(gap);
        if (left > 0) {
            node.key() = at + size, node.mapped() = left;
            p.between.insert(std::move(node));
        } else {
            keep(std::move(node));
        }
        ++blocks_;
        p.lent += size, lent_ += size;
        most_ = std::max(most_, lent_);
        return p.begin + at;
    }

    std::pmr::memory_resource* source_;
    std::vector<piece> pieces_;
    std::vector<gaps::node_type> spare_; // at least one for each block that is lent
    std::size_t blocks_ = 0;             // lent
    std::size_t lent_ = 0, held_ = 0, most_ = 0;
    std::size_t at_once_ = 0; ///< of the first piece, once it is known
};

} // namespace seqpar
