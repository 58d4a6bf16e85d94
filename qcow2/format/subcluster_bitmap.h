#ifndef RINGCOW_QCOW2_FORMAT_SUBCLUSTER_BITMAP_H_
#define RINGCOW_QCOW2_FORMAT_SUBCLUSTER_BITMAP_H_

#include <bit>
#include <cstdint>

#include "engine/invariant.h"
#include "qcow2/format/limits.h"

namespace ringcow {

// Neighbouring subclusters of one cluster: first + count is at most kSubclustersPerCluster.
struct SubclusterRange {
  uint32_t first = 0;
  uint32_t count = 0;

  friend bool operator==(const SubclusterRange&, const SubclusterRange&) = default;
};

// The subcluster allocation bitmap, the second half of an extended L2 entry.
//   bits 0-31   subcluster i has its data in the host cluster
//   bits 32-63  subcluster i - 32 reads as zeroes
// A subcluster with neither bit reads from the backing file, or as zeroes where there is none; one
// with both is invalid. A value type.
class SubclusterBitmap {
 public:
  enum class State { kUnallocated, kAllocated, kZero };

  // All subclusters unallocated.
  constexpr SubclusterBitmap() = default;
  // As stored, in host byte order. Anything: what comes from disk must pass IsValid before use.
  static constexpr SubclusterBitmap FromRaw(uint64_t raw) { return SubclusterBitmap(raw); }
  static constexpr SubclusterBitmap AllAllocated() { return SubclusterBitmap(kLow); }
  static constexpr SubclusterBitmap AllZero() { return SubclusterBitmap(kLow << kZeroShift); }

  constexpr uint64_t raw() const { return raw_; }
  // One bit a subcluster, bit i for subcluster i.
  constexpr auto allocated() const { return static_cast<uint32_t>(raw_ & kLow); }
  constexpr auto zero() const { return static_cast<uint32_t>(raw_ >> kZeroShift); }
  constexpr uint32_t unallocated() const { return ~(allocated() | zero()); }

  constexpr bool IsValid() const { return (allocated() & zero()) == 0; }

  // `index` is below kSubclustersPerCluster in these.
  constexpr State state(uint32_t index) const {
    RINGCOW_INVARIANT(index < kSubclustersPerCluster, "subcluster out of range");
    if ((zero() >> index & 1) != 0) return State::kZero;
    return (allocated() >> index & 1) != 0 ? State::kAllocated : State::kUnallocated;
  }
  // How many subclusters from `index` on are in the state that `index` is in: 1 at least.
  constexpr uint32_t RunLength(uint32_t index) const {
    const uint32_t same = In(state(index)) >> index;
    // The shift brought zeroes in at the top, which end the run at the cluster's end.
    return static_cast<uint32_t>(std::countr_one(same));
  }

  constexpr SubclusterBitmap With(SubclusterRange range, State state) const {
    const uint64_t mask = MaskOf(range);
    const uint64_t rest = raw_ & ~(mask | mask << kZeroShift);
    switch (state) {
      case State::kAllocated:
        return SubclusterBitmap(rest | mask);
      case State::kZero:
        return SubclusterBitmap(rest | mask << kZeroShift);
      case State::kUnallocated:
        break;
    }
    return SubclusterBitmap(rest);
  }

  // Whether every subcluster of `range` is in `state`. True of an empty range.
  constexpr bool AllOf(SubclusterRange range, State state) const {
    const uint64_t mask = MaskOf(range);
    return (In(state) & mask) == mask;
  }

  friend constexpr bool operator==(SubclusterBitmap, SubclusterBitmap) = default;

 private:
  static constexpr uint64_t kLow = 0xffffffff;
  static constexpr uint32_t kZeroShift = 32;

  constexpr explicit SubclusterBitmap(uint64_t raw) : raw_(raw) {}

  static constexpr uint64_t MaskOf(SubclusterRange range) {
    RINGCOW_INVARIANT(range.first <= kSubclustersPerCluster &&
                          range.count <= kSubclustersPerCluster - range.first,
                      "subclusters out of range");
    return ((uint64_t{1} << range.count) - 1) << range.first;
  }

  constexpr uint32_t In(State state) const {
    if (state == State::kZero) return zero();
    return state == State::kAllocated ? allocated() : unallocated();
  }

  uint64_t raw_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_SUBCLUSTER_BITMAP_H_
