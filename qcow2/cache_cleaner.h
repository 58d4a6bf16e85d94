#ifndef RINGCOW_QCOW2_CACHE_CLEANER_H_
#define RINGCOW_QCOW2_CACHE_CLEANER_H_

#include <chrono>

#include "qcow2/metadata.h"

namespace ringcow {

// Gives back the memory of L2 tables and refcount blocks that were not used for a while: QEMU's
// cache-clean-interval. It has no timer: the first read or write behind each interval pays for it,
// and an image without requests keeps what it has.
class CacheCleaner {
 public:
  // 0: never.
  CacheCleaner(Metadata& metadata, std::chrono::milliseconds interval)
      : metadata_(metadata), interval_(interval), next_(Clock::now() + interval) {}

  // At the beginning of one.
  void BeginRequest() {
    if (interval_.count() > 0 && Clock::now() >= next_) Clean();
  }

 private:
  using Clock = std::chrono::steady_clock;

  void Clean() {
    (void)metadata_.l2_cache.CleanUnused();
    (void)metadata_.refcount_block_cache.CleanUnused();
    next_ = Clock::now() + interval_;
  }

  Metadata& metadata_;
  const std::chrono::milliseconds interval_;
  Clock::time_point next_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CACHE_CLEANER_H_
