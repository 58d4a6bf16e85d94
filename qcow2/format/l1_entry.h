#ifndef RINGCOW_QCOW2_FORMAT_L1_ENTRY_H_
#define RINGCOW_QCOW2_FORMAT_L1_ENTRY_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "engine/host_offset.h"
#include "engine/invariant.h"
#include "qcow2/format/geometry.h"

namespace ringcow {

// An entry of the L1 table: where the L2 table is (bits 9 to 55), and COPIED (bit 63), set exactly
// when that table's refcount is one, so that it may be changed in place.
class L1Entry {
 public:
  // As stored, in host byte order. Anything: what comes from disk must pass IsValid before use.
  static constexpr L1Entry FromRaw(uint64_t raw) { return L1Entry(raw); }
  static constexpr L1Entry Unallocated() { return L1Entry(0); }
  // `table` is cluster-aligned, not 0, and at most kMaxEntryHostOffset.
  static constexpr L1Entry Table(HostOffset table, bool copied) {
    RINGCOW_INVARIANT(table.value() != 0 && (table.value() & ~kOffsetMask) == 0,
                      "not an L2 table offset");
    return L1Entry(table.value() | (copied ? kCopied : 0));
  }

  constexpr uint64_t raw() const { return raw_; }
  constexpr bool copied() const { return (raw_ & kCopied) != 0; }
  constexpr L1Entry WithCopied(bool copied) const {
    return L1Entry((raw_ & ~kCopied) | (copied ? kCopied : 0));
  }
  // Nothing when no L2 table is allocated: all its guest clusters are unallocated.
  constexpr std::optional<HostOffset> l2_table() const {
    const uint64_t offset = raw_ & kOffsetMask;
    return offset == 0 ? std::nullopt : std::optional(HostOffset(offset));
  }
  constexpr uint64_t reserved_bits() const { return raw_ & kReservedMask; }

  // No reserved bit, and the L2 table aligned to a cluster. Whether it lies inside the file is for
  // the caller to check.
  bool IsValid(const Geometry& geometry) const {
    return reserved_bits() == 0 && geometry.IsClusterAligned(HostOffset(raw_ & kOffsetMask));
  }
  // The same, as a message with the place: InvalidArgument when not valid.
  absl::Status Validate(const Geometry& geometry, uint64_t l1_index) const {
    return IsValid(geometry) ? absl::OkStatus() : WhatIsWrong(l1_index);
  }

  friend constexpr bool operator==(L1Entry, L1Entry) = default;

 private:
  static constexpr uint64_t kCopied = uint64_t{1} << 63;
  static constexpr uint64_t kOffsetMask = 0x00fffffffffffe00;
  static constexpr uint64_t kReservedMask = ~(kCopied | kOffsetMask);

  constexpr explicit L1Entry(uint64_t raw) : raw_(raw) {}

  absl::Status WhatIsWrong(uint64_t l1_index) const;

  uint64_t raw_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_L1_ENTRY_H_
