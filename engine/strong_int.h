#ifndef RINGCOW_ENGINE_STRONG_INT_H_
#define RINGCOW_ENGINE_STRONG_INT_H_

#include <compare>
#include <cstdint>
#include <utility>

namespace ringcow {

// An unsigned 64-bit position that never converts to or from another kind of position: a guest
// offset used as a host offset would overwrite foreign clusters. Distances between two positions
// are plain uint64_t. Arithmetic wraps like uint64_t; what comes from disk is bounded before it
// gets here.
template <typename Tag>
class StrongInt {
 public:
  constexpr StrongInt() = default;
  constexpr explicit StrongInt(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }

  friend constexpr auto operator<=>(StrongInt, StrongInt) = default;
  friend constexpr StrongInt operator+(StrongInt a, uint64_t n) { return StrongInt(a.value_ + n); }
  friend constexpr StrongInt operator-(StrongInt a, uint64_t n) { return StrongInt(a.value_ - n); }
  friend constexpr uint64_t operator-(StrongInt a, StrongInt b) { return a.value_ - b.value_; }
  constexpr StrongInt& operator+=(uint64_t n) {
    value_ += n;
    return *this;
  }
  constexpr StrongInt& operator++() {
    ++value_;
    return *this;
  }

  template <typename H>
  friend H AbslHashValue(H h, StrongInt s) {
    return H::combine(std::move(h), s.value_);
  }

 private:
  uint64_t value_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_STRONG_INT_H_
