#ifndef RINGCOW_QCOW2_CHECK_RANGES_H_
#define RINGCOW_QCOW2_CHECK_RANGES_H_

#include <cstdint>
#include <vector>

namespace ringcow {

// Bytes [begin, end) of the file, and how many tables there have them.
struct WeightedRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t weight = 1;
  bool active = false;  // the active L1 table is one of them

  friend bool operator==(const WeightedRange&, const WeightedRange&) = default;
};

// Cuts overlapping ranges into disjoint ones with the sum of their weights, at most twice as many,
// in the order of the first range that has them. This is what keeps a check's time within the size
// of the file, when 65536 snapshots all claim the same 32 MiB as their L1 table.
// Only the first range may be active. Empty ranges vanish.
std::vector<WeightedRange> SplitOverlaps(const std::vector<WeightedRange>& ranges);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_RANGES_H_
