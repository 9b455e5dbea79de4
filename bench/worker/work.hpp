#pragma once

#include <string>

namespace bench {

/// Something that is ready to be run again and again on the same inputs.
class work {
public:
    work() = default;
    work(const work&) = delete;
    work& operator=(const work&) = delete;
    virtual ~work() = default;

    /// Seconds that `times` repetitions took, one after the other.
    [[nodiscard]] virtual double run(int times) = 0;
    /// Writes what the last repetition computed: out.npy, or dq.npy, dk.npy and dv.npy.
    virtual void write(const std::string& directory) = 0;
};

} // namespace bench
