#ifndef RINGCOW_QCOW2_FORMAT_BIG_ENDIAN_H_
#define RINGCOW_QCOW2_FORMAT_BIG_ENDIAN_H_

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "engine/invariant.h"

namespace ringcow {

// All integers of a qcow2 image are big-endian. Swapping happens here and nowhere else.

template <std::unsigned_integral T>
constexpr T HostToBe(T value) {
  if constexpr (sizeof(T) == 1 || std::endian::native == std::endian::big) {
    return value;
  } else if constexpr (sizeof(T) == 2) {
    return __builtin_bswap16(value);
  } else if constexpr (sizeof(T) == 4) {
    return __builtin_bswap32(value);
  } else {
    return __builtin_bswap64(value);
  }
}

// Loads and stores at any alignment. `p` points to at least sizeof(T) bytes.
template <std::unsigned_integral T>
T LoadBe(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return HostToBe(value);
}

template <std::unsigned_integral T>
void StoreBe(std::byte* p, T value) {
  value = HostToBe(value);
  std::memcpy(p, &value, sizeof(T));
}

// Entry `index` of a table (or slice of one) of 64-bit entries: L1, L2, refcount table.
inline uint64_t LoadBe64At(std::span<const std::byte> table, size_t index) {
  RINGCOW_INVARIANT(index < table.size() / 8, "table index out of range");
  return LoadBe<uint64_t>(table.data() + index * 8);
}

inline void StoreBe64At(std::span<std::byte> table, size_t index, uint64_t value) {
  RINGCOW_INVARIANT(index < table.size() / 8, "table index out of range");
  StoreBe<uint64_t>(table.data() + index * 8, value);
}

// A big-endian field of an on-disk struct: alignment 1, so that such structs have no padding.
template <std::unsigned_integral T>
class BigEndian {
 public:
  BigEndian() = default;
  explicit BigEndian(T value) { StoreBe<T>(bytes_.data(), value); }

  T value() const { return LoadBe<T>(bytes_.data()); }

 private:
  std::array<std::byte, sizeof(T)> bytes_{};
};

using Be16 = BigEndian<uint16_t>;
using Be32 = BigEndian<uint32_t>;
using Be64 = BigEndian<uint64_t>;

static_assert(sizeof(Be16) == 2 && alignof(Be16) == 1);
static_assert(sizeof(Be32) == 4 && alignof(Be32) == 1);
static_assert(sizeof(Be64) == 8 && alignof(Be64) == 1);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_BIG_ENDIAN_H_
