#ifndef RINGCOW_QCOW2_FORMAT_REFCOUNT_BLOCK_H_
#define RINGCOW_QCOW2_FORMAT_REFCOUNT_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/invariant.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/limits.h"

namespace ringcow {

// Refcounts in a refcount block, or in a slice of one: `index` counts from the first refcount in
// `block`. A refcount has 2^refcount_order bits; widths below a byte are packed from the least
// significant bit on, widths above are big-endian.

// The largest refcount of a width; refcount_order is 0 to kMaxRefcountOrder.
constexpr uint64_t MaxRefcount(uint32_t refcount_order) {
  return ~uint64_t{0} >> (64 - (uint32_t{1} << refcount_order));
}

// How many refcounts fit in `bytes` bytes.
constexpr uint64_t RefcountsIn(uint64_t bytes, uint32_t refcount_order) {
  return (bytes << 3) >> refcount_order;
}

inline uint64_t GetRefcount(std::span<const std::byte> block, uint64_t index,
                            uint32_t refcount_order) {
  RINGCOW_INVARIANT(refcount_order <= kMaxRefcountOrder, "no such refcount width");
  RINGCOW_INVARIANT(index < RefcountsIn(block.size(), refcount_order), "refcount out of range");
  switch (refcount_order) {
    case 3:
      return LoadBe<uint8_t>(block.data() + index);
    case 4:
      return LoadBe<uint16_t>(block.data() + index * 2);
    case 5:
      return LoadBe<uint32_t>(block.data() + index * 4);
    case 6:
      return LoadBe<uint64_t>(block.data() + index * 8);
    default: {
      const uint64_t bit = index << refcount_order;
      const auto byte = static_cast<uint8_t>(block[bit / 8]);
      return (uint64_t{byte} >> (bit % 8)) & MaxRefcount(refcount_order);
    }
  }
}

// `value` is at most MaxRefcount(refcount_order): more would silently become less, and a cluster
// with less refcount than references gets reused under a reader's feet.
inline void SetRefcount(std::span<std::byte> block, uint64_t index, uint32_t refcount_order,
                        uint64_t value) {
  RINGCOW_INVARIANT(refcount_order <= kMaxRefcountOrder, "no such refcount width");
  RINGCOW_INVARIANT(index < RefcountsIn(block.size(), refcount_order), "refcount out of range");
  RINGCOW_INVARIANT(value <= MaxRefcount(refcount_order), "refcount does not fit its width");
  switch (refcount_order) {
    case 3:
      return StoreBe<uint8_t>(block.data() + index, static_cast<uint8_t>(value));
    case 4:
      return StoreBe<uint16_t>(block.data() + index * 2, static_cast<uint16_t>(value));
    case 5:
      return StoreBe<uint32_t>(block.data() + index * 4, static_cast<uint32_t>(value));
    case 6:
      return StoreBe<uint64_t>(block.data() + index * 8, value);
    default: {
      const uint64_t bit = index << refcount_order;
      const uint64_t mask = MaxRefcount(refcount_order) << (bit % 8);
      const uint64_t rest = static_cast<uint64_t>(block[bit / 8]) & ~mask;
      block[bit / 8] = static_cast<std::byte>(rest | (value << (bit % 8)));
    }
  }
}

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_REFCOUNT_BLOCK_H_
