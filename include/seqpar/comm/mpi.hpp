#pragma once

#include <seqpar/comm/communicator.hpp>
#include <seqpar/comm/delivery.hpp>
#include <seqpar/comm/native.hpp>
#include <seqpar/core/cores.hpp>
#include <seqpar/core/error.hpp>
#include <seqpar/core/operation.hpp>

#include <boost/mpi/communicator.hpp>
#include <boost/mpi/environment.hpp>

#include <algorithm>
#include <chrono>
#include <climits>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace seqpar {
namespace detail::mpi {

[[nodiscard]] inline std::string error_text(int code) {
    char text[MPI_MAX_ERROR_STRING] = {};
    int length = 0;
    MPI_Error_string(code, text, &length);
    return {text, static_cast<std::size_t>(length)};
}

inline void check(const char* call, int code) {
    if (code != MPI_SUCCESS) throw communication_error(concat(call, ": ", error_text(code), in_operation()));
}

/// Calls use(offset, count) for each piece of at most `limit` bytes: MPI counts in int.
template <class Use>
void for_each_chunk(std::size_t bytes, std::size_t limit, const Use& use) {
    for (std::size_t offset = 0; offset < bytes; offset += limit)
        use(offset, static_cast<int>(std::min(limit, bytes - offset)));
}

inline void refuse_ghost(const char* verb, const void* data, std::size_t bytes, int peer) {
    if (data == nullptr && bytes != 0) {
        throw refusal(concat("mpi_communicator: a ghost of ", bytes, " bytes to ", verb, " rank ", peer,
                             "; MPI moves bytes that exist: give it storage, or simulate the ranks"));
    }
}

/// Types that describe each rank's part of an all-to-all at its place in memory, freed at the end.
class part_types {
public:
    part_types(std::size_t size, std::size_t limit)
        : limit_(limit), types(size, MPI_BYTE), counts(size, 0), displacements(size, 0) {}
    part_types(const part_types&) = delete;
    part_types& operator=(const part_types&) = delete;
    ~part_types() {
        for (std::size_t r = 0; r < types.size(); ++r)
            if (counts[r] != 0) MPI_Type_free(&types[r]);
    }

    void describe(std::size_t rank, const std::byte* data, std::size_t bytes) {
        if (bytes == 0) return;
        std::vector<int> lengths;
        std::vector<MPI_Aint> places;
        for_each_chunk(bytes, limit_, [&](std::size_t offset, int count) {
            MPI_Aint place = 0;
            check("MPI_Get_address", MPI_Get_address(data + offset, &place));
            lengths.push_back(count);
            places.push_back(place);
        });
        if (lengths.size() > static_cast<std::size_t>(INT_MAX)) {
            throw communication_error(concat("mpi_communicator::all_to_all: ", bytes, " bytes in chunks of ", limit_,
                                             " are ", lengths.size(), " chunks; at most ", INT_MAX));
        }
        check("MPI_Type_create_hindexed", MPI_Type_create_hindexed(static_cast<int>(lengths.size()), lengths.data(),
                                                                   places.data(), MPI_BYTE, &types[rank]));
        counts[rank] = 1;
        check("MPI_Type_commit", MPI_Type_commit(&types[rank]));
    }

private:
    std::size_t limit_;

public:
    std::vector<MPI_Datatype> types;
    std::vector<int> counts;
    std::vector<int> displacements; // all 0: the types hold addresses
};

} // namespace detail::mpi

/// The ranks of an MPI job, or some of them. Talks on its own duplicate of the communicator that it is made from, which is
/// freed with the last copy (after MPI_Finalize there is nothing left to free).
///
/// Messages longer than chunk_limit bytes travel in pieces, so that any number of bytes can be sent.
/// Errors: communication_error with MPI's own text; for sizes that differ it comes on the receiving rank, and can be told
/// only where the sizes differ within one chunk: MPI has no other way to know. refusal for ghosts. An exception on one rank
/// does not reach the others by itself: see mpi::run.
/// Colors of a split must not be negative.
class mpi_communicator {
public:
    /// Pieces in which long messages travel, in bytes; MPI's own limit by default.
    static constexpr std::size_t largest_chunk = static_cast<std::size_t>(INT_MAX);

    class request {
    public:
        request() = default;
        request(request&& other) noexcept { swap(other); }
        request& operator=(request&& other) noexcept {
            request(std::move(other)).swap(*this);
            return *this;
        }
        ~request() { withdraw(); }

        void wait() {
            for (; finished_ < pieces_.size(); ++finished_) {
                MPI_Status status;
                const int code = MPI_Wait(&pieces_[finished_], &status);
                judge(code, status);
            }
            // From here on there is nothing to wait for, whether this throws or not.
            request done;
            swap(done);
            if (!done.failure_.empty()) throw communication_error(done.failure_ + detail::in_operation());
        }

        // Piece by piece: of several pieces at once OpenMPI 4.1 may wait for ever if one of them fails.
        [[nodiscard]] bool test() {
            for (; finished_ < pieces_.size(); ++finished_) {
                MPI_Status status;
                int there = 0;
                const int code = MPI_Test(&pieces_[finished_], &there, &status);
                if (code == MPI_SUCCESS && there == 0) return false;
                judge(code, status);
            }
            return true;
        }

    private:
        friend class mpi_communicator;

        /// MPI cannot take back a send that is under way, and a peer that failed will not receive it.
        static constexpr std::chrono::seconds patience{1};

        /// Keeps the first thing that went wrong with a piece for wait() to throw.
        void judge(int code, const MPI_Status& status) {
            const bool received = finished_ < receives_;
            int arrived = 0;
            if (code == MPI_SUCCESS && received) code = MPI_Get_count(&status, MPI_BYTE, &arrived);
            if (!failure_.empty() || (code == MPI_SUCCESS && (!received || arrived == expected_[finished_]))) return;
            using detail::concat;
            const std::string what =
                code != MPI_SUCCESS ? detail::mpi::error_text(code) : concat(arrived, " bytes arrived");
            failure_ = received ? concat("message from rank ", from_, " to rank ", rank_, ": ", what, ", ",
                                         expected_[finished_], " bytes expected; both must name the same size")
                                : concat("message from rank ", rank_, " to rank ", to_, ": ", what);
        }

        void withdraw() noexcept {
            const auto under_way = [](MPI_Request piece) { return piece != MPI_REQUEST_NULL; };
            int finalized = 0;
            if (std::none_of(pieces_.begin(), pieces_.end(), under_way)) return;
            if (MPI_Finalized(&finalized) != MPI_SUCCESS || finalized != 0) return;
            for (MPI_Request& piece : pieces_)
                if (under_way(piece)) MPI_Cancel(&piece);
            // A receive ends by being cancelled or by having arrived.
            for (std::size_t i = 0; i < receives_; ++i) MPI_Wait(&pieces_[i], MPI_STATUS_IGNORE);
            const auto last = std::chrono::steady_clock::now() + patience;
            do {
                int gone = 0;
                for (MPI_Request& piece : pieces_) MPI_Test(&piece, &gone, MPI_STATUS_IGNORE);
            } while (std::any_of(pieces_.begin(), pieces_.end(), under_way) && std::chrono::steady_clock::now() < last);
            for (MPI_Request& piece : pieces_)
                if (under_way(piece)) MPI_Request_free(&piece);
        }

        void swap(request& other) noexcept {
            pieces_.swap(other.pieces_);
            expected_.swap(other.expected_);
            std::swap(receives_, other.receives_);
            std::swap(rank_, other.rank_);
            std::swap(to_, other.to_);
            std::swap(from_, other.from_);
            std::swap(finished_, other.finished_);
            failure_.swap(other.failure_);
        }

        std::vector<MPI_Request> pieces_; // receives_ receives, then the sends
        std::vector<int> expected_;       // bytes of each receive
        std::size_t receives_ = 0;
        int rank_ = 0, to_ = 0, from_ = 0;
        std::size_t finished_ = 0;
        std::string failure_;
    };

    /// Collective over `world`, of which it takes a duplicate. chunk_limit: 1 to largest_chunk bytes, the same on all ranks.
    explicit mpi_communicator(const boost::mpi::communicator& world = boost::mpi::communicator(),
                              std::size_t chunk_limit = largest_chunk)
        : mpi_communicator(duplicate(world, chunk_limit), chunk_limit) {}

    [[nodiscard]] int rank() const noexcept { return rank_; }
    [[nodiscard]] int size() const noexcept { return size_; }

    /// Boost.MPI's view of the same group: for whoever needs more of MPI. What is sent there must not be left unreceived.
    [[nodiscard]] const boost::mpi::communicator& native() const noexcept { return comm_; }

    request exchange(outgoing out, int to, incoming in, int from) {
        detail::check_peers(out, to, in, from, size_);
        detail::mpi::refuse_ghost("send to", out.data, out.bytes, to);
        detail::mpi::refuse_ghost("receive from", in.data, in.bytes, from);
        request posted;
        posted.rank_ = rank_;
        posted.to_ = to;
        posted.from_ = from;
        const std::size_t receives = chunks(in.bytes);
        posted.pieces_.reserve(receives + chunks(out.bytes));
        posted.expected_.reserve(receives);
        // One tag: pieces, and messages, arrive in the order posted.
        detail::mpi::for_each_chunk(in.bytes, chunk_limit_, [&](std::size_t offset, int count) {
            MPI_Request piece = MPI_REQUEST_NULL;
            detail::mpi::check("MPI_Irecv", MPI_Irecv(in.data + offset, count, MPI_BYTE, from, tag, comm_, &piece));
            posted.pieces_.push_back(piece);
            posted.expected_.push_back(count);
            ++posted.receives_;
        });
        detail::mpi::for_each_chunk(out.bytes, chunk_limit_, [&](std::size_t offset, int count) {
            MPI_Request piece = MPI_REQUEST_NULL;
            detail::mpi::check("MPI_Isend", MPI_Isend(out.data + offset, count, MPI_BYTE, to, tag, comm_, &piece));
            posted.pieces_.push_back(piece);
        });
        return posted;
    }

    mpi_communicator split(int color, int key) {
        if (color < 0) {
            throw refusal(
                detail::concat("mpi_communicator::split: color ", color, "; allowed: 0 to ", INT_MAX, ", nearest: 0"));
        }
        MPI_Comm part = MPI_COMM_NULL;
        detail::mpi::check("MPI_Comm_split", MPI_Comm_split(comm_, color, key, &part));
        return {owned{part}, chunk_limit_};
    }

    void barrier() { detail::mpi::check("MPI_Barrier", MPI_Barrier(comm_)); }

    /// One MPI_Alltoallw. Each part is a type of chunks at its own address, so that parts may lie anywhere and be of any size.
    void all_to_all(std::span<const outgoing> out, std::span<const incoming> in) {
        const auto own = static_cast<std::size_t>(rank_);
        for (int r = 0; r < size_; ++r) {
            if (r == rank_) continue;
            const auto i = static_cast<std::size_t>(r);
            detail::mpi::refuse_ghost("send to", out[i].data, out[i].bytes, r);
            detail::mpi::refuse_ghost("receive from", in[i].data, in[i].bytes, r);
        }
        detail::copy_own_part(out[own], in[own], rank_);
        detail::mpi::part_types sent(out.size(), chunk_limit_);
        detail::mpi::part_types received(in.size(), chunk_limit_);
        for (std::size_t r = 0; r < out.size(); ++r) {
            if (r == own) continue;
            sent.describe(r, out[r].data, out[r].bytes);
            received.describe(r, in[r].data, in[r].bytes);
        }
        detail::mpi::check("MPI_Alltoallw", MPI_Alltoallw(MPI_BOTTOM, sent.counts.data(), sent.displacements.data(),
                                                          sent.types.data(), MPI_BOTTOM, received.counts.data(),
                                                          received.displacements.data(), received.types.data(), comm_));
    }

private:
    static constexpr int tag = 0;

    struct owned {
        MPI_Comm comm;
    };

    mpi_communicator(owned mine, std::size_t chunk_limit)
        : comm_(mine.comm, boost::mpi::comm_take_ownership), rank_(comm_.rank()), size_(comm_.size()),
          chunk_limit_(chunk_limit) {
        // Whatever the parent does with errors, here they become exceptions.
        detail::mpi::check("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(mine.comm, MPI_ERRORS_RETURN));
    }

    static owned duplicate(MPI_Comm world, std::size_t chunk_limit) {
        if (chunk_limit < 1 || chunk_limit > largest_chunk) {
            throw refusal(detail::concat("mpi_communicator: chunk_limit ", chunk_limit, "; allowed: 1 to ",
                                         largest_chunk, ", nearest: ", chunk_limit < 1 ? 1 : largest_chunk));
        }
        MPI_Comm mine = MPI_COMM_NULL;
        detail::mpi::check("MPI_Comm_dup", MPI_Comm_dup(world, &mine));
        return {mine};
    }

    [[nodiscard]] std::size_t chunks(std::size_t bytes) const noexcept {
        return bytes / chunk_limit_ + (bytes % chunk_limit_ != 0 ? 1 : 0);
    }

    boost::mpi::communicator comm_; // shared by copies; the last one frees it
    int rank_;
    int size_;
    std::size_t chunk_limit_;
};

static_assert(communicator<mpi_communicator>);
static_assert(native_barrier<mpi_communicator>);
static_assert(native_all_to_all<mpi_communicator>);

/// The cores that each rank of `world` on this machine may use, in the order of the ranks. Collective.
[[nodiscard]] inline std::vector<core_set> allowed_cores(const mpi_communicator& world) {
    using detail::mpi::check;
    MPI_Comm split = MPI_COMM_NULL;
    check("MPI_Comm_split_type", MPI_Comm_split_type(world.native(), MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &split));
    const boost::mpi::communicator machine(split, boost::mpi::comm_take_ownership);
    const core_set own = allowed_cores();
    std::vector<core_set> all(static_cast<std::size_t>(machine.size()));
    check("MPI_Allgather", MPI_Allgather(&own, sizeof own, MPI_BYTE, all.data(), sizeof own, MPI_BYTE, machine));
    return all;
}

/// Threads for each rank of `world`: as many as leave no core of their machines with two, at least 1, whether the launcher has
/// bound each rank to cores of its own or not. The same on all ranks. Collective.
///
///     attention attend{world, ring{}, thread_pool(threads_per_rank(world))};
[[nodiscard]] inline int threads_per_rank(const mpi_communicator& world) {
    int threads = threads_per_rank(allowed_cores(world));
    detail::mpi::check("MPI_Allreduce", MPI_Allreduce(MPI_IN_PLACE, &threads, 1, MPI_INT, MPI_MIN, world.native()));
    return threads;
}

namespace mpi {

/// Calls f(mpi_communicator) on every rank of the job, between MPI_Init and MPI_Finalize. If f throws on a rank, that rank
/// prints why, and in which operation, and ends the whole job with exit status 1: MPI has no way to wake ranks that wait.
template <std::invocable<mpi_communicator> F>
void run(int& argc, char**& argv, F&& f) {
    const boost::mpi::environment environment(argc, argv, boost::mpi::threading::funneled);
    const boost::mpi::communicator world;
    try {
        f(mpi_communicator(world));
    } catch (...) {
        std::fprintf(stderr, "rank %d: %s\n", world.rank(), detail::failure_text().c_str());
        std::fflush(stderr);
        boost::mpi::environment::abort(1);
    }
}

} // namespace mpi
} // namespace seqpar
