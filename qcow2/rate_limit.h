#ifndef RINGCOW_QCOW2_RATE_LIMIT_H_
#define RINGCOW_QCOW2_RATE_LIMIT_H_

#include <chrono>
#include <cstdint>

#include "engine/loop.h"
#include "engine/task.h"

namespace ringcow {

// Spreads bytes over time.
class RateLimit {
 public:
  // 0: no limit.
  RateLimit(Loop& loop, uint64_t bytes_per_second)
      : loop_(loop), bytes_per_second_(bytes_per_second) {}

  // Waits until what was asked for before has had its time. One at a time. Requests under way go on
  // meanwhile.
  Task<void> Take(uint64_t bytes);

 private:
  using Clock = std::chrono::steady_clock;

  Loop& loop_;
  const uint64_t bytes_per_second_;
  Clock::time_point next_ = Clock::time_point::min();
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_RATE_LIMIT_H_
