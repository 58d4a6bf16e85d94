#ifndef RINGCOW_BENCH_RUNNER_H_
#define RINGCOW_BENCH_RUNNER_H_

#include <chrono>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "bench/latency_histogram.h"
#include "bench/workload.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/task.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

struct RunOptions {
  uint32_t depth = 1;        // requests under way at the same time
  uint32_t flush_every = 0;  // as Workload::flush_every
  // No request begins after this time; what is under way is finished. A slow disk makes a run
  // shorter, not longer.
  std::chrono::nanoseconds time_limit = std::chrono::hours(1);
  // Where the memory of the requests is registered, as a guest's would be, if that is possible.
  Rings* rings = nullptr;
};

struct RunResult {
  std::chrono::nanoseconds elapsed{0};  // first request to last completion, flushes included
  uint64_t requests = 0;                // reads and writes
  uint64_t bytes = 0;
  uint64_t flushes = 0;
  uint64_t heap_allocations = 0;  // by operator new, in the time that `elapsed` is
  // Of these, those after the first half of the requests, when pools have their size.
  uint64_t steady_heap_allocations = 0;
  LatencyHistogram latency;  // of reads and writes

  double seconds() const { return std::chrono::duration<double>(elapsed).count(); }
  double iops() const { return static_cast<double>(requests) / seconds(); }
};

// Makes the requests of `ops` in order on `disk`, `options.depth` at a time: each of so many
// coroutines takes the next request when its last one has ended. A kFlush among the requests takes
// one of these places and holds up nothing else. Written bytes are not zero.
//
// Fails with the first request that fails; the others under way are waited for.
Task<absl::StatusOr<RunResult>> RunOps(Loop& loop, GuestDisk& disk, std::span<const GuestOp> ops,
                                       RunOptions options);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_RUNNER_H_
