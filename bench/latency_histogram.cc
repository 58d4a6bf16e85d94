#include "bench/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace ringcow {
namespace {

// Values below 2 * kHalf have a bucket each. Beyond, each power of two is divided into kHalf
// buckets: bucket = shift * kHalf + (value >> shift), where value >> shift is in [kHalf, 2 *
// kHalf).
constexpr int kHalfBits = 6;
constexpr uint64_t kHalf = uint64_t{1} << kHalfBits;
constexpr size_t kBuckets = (64 - kHalfBits) * kHalf + kHalf;

size_t BucketOf(uint64_t value) {
  const int shift = std::max(0, static_cast<int>(std::bit_width(value)) - 1 - kHalfBits);
  return static_cast<size_t>(shift) * kHalf + (value >> shift);
}

uint64_t LargestIn(size_t bucket) {
  if (bucket < 2 * kHalf) return bucket;
  const uint64_t shift = bucket / kHalf - 1;
  return ((bucket - shift * kHalf + 1) << shift) - 1;
}

}  // namespace

LatencyHistogram::LatencyHistogram() : counts_(kBuckets) {}

void LatencyHistogram::Record(std::chrono::nanoseconds duration) {
  duration = std::max(duration, std::chrono::nanoseconds(0));
  ++counts_[BucketOf(static_cast<uint64_t>(duration.count()))];
  ++count_;
  max_ = std::max(max_, duration);
}

std::chrono::nanoseconds LatencyHistogram::Percentile(double percent) const {
  if (count_ == 0) return std::chrono::nanoseconds(0);
  const auto rank = static_cast<uint64_t>(std::ceil(percent / 100 * static_cast<double>(count_)));
  uint64_t seen = 0;
  for (size_t bucket = 0; bucket < counts_.size(); ++bucket) {
    seen += counts_[bucket];
    if (seen >= rank && seen > 0) {
      return std::min(max_, std::chrono::nanoseconds(LargestIn(bucket)));
    }
  }
  return max_;
}

}  // namespace ringcow
