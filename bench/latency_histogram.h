#ifndef RINGCOW_BENCH_LATENCY_HISTOGRAM_H_
#define RINGCOW_BENCH_LATENCY_HISTOGRAM_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ringcow {

// Counts durations in buckets whose width grows with the value, as HdrHistogram does: any value is
// known to within 1/64, whatever its size, in constant memory and with a few instructions.
class LatencyHistogram {
 public:
  LatencyHistogram();

  // A negative duration counts as zero.
  void Record(std::chrono::nanoseconds duration);

  uint64_t count() const { return count_; }
  std::chrono::nanoseconds max() const { return max_; }
  // The smallest recorded value, to within a bucket and never below it, that at least `percent` of
  // all values do not exceed; 0 when nothing was recorded. 0 < percent <= 100.
  std::chrono::nanoseconds Percentile(double percent) const;

 private:
  std::vector<uint64_t> counts_;
  uint64_t count_ = 0;
  std::chrono::nanoseconds max_{0};
};

}  // namespace ringcow

#endif  // RINGCOW_BENCH_LATENCY_HISTOGRAM_H_
