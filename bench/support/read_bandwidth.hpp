/// @file
/// How many bytes a second the cores can read: the limit of what touches each byte once, as decoding does.
#pragma once

#include <seqpar/core/tensor.hpp>
#include <seqpar/kernel/flash/engine.hpp>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace bench {

/// Adds up `count` floats, a multiple of 8 vectors, in 8 independent sums. What is 1 KB further on is asked for meanwhile: a
/// core reads a twentieth to a seventh more than by guessing what comes.
template <class S>
[[gnu::always_inline]] inline void sum_of_stream(const float* from, std::size_t count, float* out) {
    typename S::vector sum[8] = {};
    for (const float* end = from + count; from < end; from += 8 * S::lanes) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
            __builtin_prefetch(from + i * S::lanes + 256, 0, 2);
            sum[i] += seqpar::flash_detail::load<S>(from + i * S::lanes);
        }
    }
#pragma GCC unroll 8
    for (int i = 1; i < 8; ++i) sum[0] += sum[i];
    seqpar::flash_detail::store<S>(out) = sum[0];
}

inline void read_baseline(const float* from, std::size_t count, float* out) {
    sum_of_stream<seqpar::flash_detail::simd<float, 16, 4, 2>>(from, count, out);
}
#if defined(__x86_64__) || defined(__i386__)
[[gnu::target("avx2,fma")]] inline void read_avx2(const float* from, std::size_t count, float* out) {
    sum_of_stream<seqpar::flash_detail::simd<float, 32, 4, 2>>(from, count, out);
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]] inline void read_avx512(const float* from, std::size_t count,
                                                                                  float* out) {
    sum_of_stream<seqpar::flash_detail::simd<float, 64, 8, 4>>(from, count, out);
}
#endif

/// Bytes of the last cache that this core sees, or 32 MiB where the system does not tell. Not sysconf: it adds up what other
/// cores see.
[[nodiscard]] inline std::size_t last_cache_bytes() {
    std::size_t largest = 0;
    for (const char index : {'0', '1', '2', '3', '4'}) {
        std::ifstream file(std::string("/sys/devices/system/cpu/cpu0/cache/index") + index + "/size");
        std::size_t size = 0;
        char unit = ' ';
        if (file >> size >> unit) largest = std::max(largest, size << (unit == 'M' ? 20 : 10));
    }
    return largest == 0 ? std::size_t{32} << 20 : largest;
}

/// A stretch of memory that no cache holds, read by a number of threads at once, a part each.
class read_bandwidth {
public:
    read_bandwidth() : memory_(std::max(std::size_t{256} << 20, 4 * last_cache_bytes()) / chunk * chunk) {
        std::fill_n(data(), memory_.size() / sizeof(float), 1.0F);
    }

    /// Bytes a second: the best of five passes.
    [[nodiscard]] double operator()(int threads) const {
        void (*run)(const float*, std::size_t, float*) = &read_baseline;
#if defined(__x86_64__) || defined(__i386__)
        const auto set = vectors_of(seqpar::best_instruction_set());
        if (set == seqpar::instruction_set::avx2) run = &read_avx2;
        if (set == seqpar::instruction_set::avx512) run = &read_avx512;
#endif
        const std::size_t part = memory_.size() / chunk / static_cast<std::size_t>(threads) * chunk;
        double best = 0;
        std::barrier gate(threads);
        const auto read = [&](int worker) {
            alignas(64) float out[16];
            const float* from = data() + static_cast<std::size_t>(worker) * part / sizeof(float);
            for (int pass = 0; pass < 5; ++pass) {
                gate.arrive_and_wait();
                const auto start = std::chrono::steady_clock::now();
                run(from, part / sizeof(float), out);
                gate.arrive_and_wait();
                const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
                volatile float used = out[0];
                static_cast<void>(used);
                if (worker == 0)
                    best = std::max(best, static_cast<double>(part) * static_cast<double>(threads) / seconds);
            }
        };
        {
            std::vector<std::jthread> others;
            for (int worker = 1; worker < threads; ++worker) others.emplace_back(read, worker);
            read(0);
        }
        return best;
    }

private:
    static constexpr std::size_t chunk = 4096;
    [[nodiscard]] float* data() const { return reinterpret_cast<float*>(memory_.data()); }

    seqpar::buffer memory_;
};

} // namespace bench
