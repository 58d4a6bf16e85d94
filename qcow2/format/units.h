#ifndef RINGCOW_QCOW2_FORMAT_UNITS_H_
#define RINGCOW_QCOW2_FORMAT_UNITS_H_

#include <cstdint>

#include "engine/strong_int.h"

namespace ringcow {

// A byte position on the virtual disk the guest sees.
using GuestOffset = StrongInt<struct GuestOffsetTag>;

// The number of a host cluster: its HostOffset divided by the cluster size. Refcounts are kept per
// ClusterIndex.
using ClusterIndex = StrongInt<struct ClusterIndexTag>;

// Neighbouring host clusters.
struct ClusterRun {
  ClusterIndex first;
  uint64_t count = 0;

  ClusterIndex end() const { return first + count; }
  friend bool operator==(const ClusterRun&, const ClusterRun&) = default;
};

constexpr bool IsPowerOfTwo(uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

// `alignment` is a power of two in all of these.
constexpr bool IsAligned(uint64_t value, uint64_t alignment) {
  return (value & (alignment - 1)) == 0;
}

constexpr uint64_t AlignDown(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}

// Wraps to 0 when the result does not fit in 64 bits: bound `value` first.
constexpr uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return AlignDown(value + (alignment - 1), alignment);
}

// ceil(value / divisor), without the overflow of (value + divisor - 1). `divisor` is not 0.
constexpr uint64_t DivideRoundUp(uint64_t value, uint64_t divisor) {
  return value / divisor + (value % divisor != 0 ? 1 : 0);
}

template <typename Tag>
constexpr bool IsAligned(StrongInt<Tag> position, uint64_t alignment) {
  return IsAligned(position.value(), alignment);
}

template <typename Tag>
constexpr StrongInt<Tag> AlignDown(StrongInt<Tag> position, uint64_t alignment) {
  return StrongInt<Tag>(AlignDown(position.value(), alignment));
}

template <typename Tag>
constexpr StrongInt<Tag> AlignUp(StrongInt<Tag> position, uint64_t alignment) {
  return StrongInt<Tag>(AlignUp(position.value(), alignment));
}

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_UNITS_H_
