#include "qcow2/rate_limit.h"

#include <algorithm>
#include <thread>

namespace ringcow {

Task<void> RateLimit::Take(uint64_t bytes) {
  if (bytes_per_second_ == 0) co_return;
  // The loop has no clock: it gets a turn every millisecond.
  while (Clock::now() < next_) {
    co_await loop_.Yield();
    const Clock::duration left = std::max(next_ - Clock::now(), Clock::duration::zero());
    std::this_thread::sleep_for(std::min<Clock::duration>(left, std::chrono::milliseconds(1)));
  }
  const std::chrono::duration<double> lasts(static_cast<double>(bytes) /
                                            static_cast<double>(bytes_per_second_));
  next_ = std::max(next_, Clock::now()) + std::chrono::duration_cast<Clock::duration>(lasts);
}

}  // namespace ringcow
