#ifndef RINGCOW_QCOW2_FORMAT_REFCOUNT_TABLE_ENTRY_H_
#define RINGCOW_QCOW2_FORMAT_REFCOUNT_TABLE_ENTRY_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "engine/host_offset.h"
#include "engine/invariant.h"
#include "qcow2/format/geometry.h"

namespace ringcow {

// An entry of the refcount table: where the refcount block is (bits 9 to 63).
class RefcountTableEntry {
 public:
  // As stored, in host byte order. Anything: what comes from disk must pass IsValid before use.
  static constexpr RefcountTableEntry FromRaw(uint64_t raw) { return RefcountTableEntry(raw); }
  static constexpr RefcountTableEntry Unallocated() { return RefcountTableEntry(0); }
  // `block` is cluster-aligned and not 0.
  static constexpr RefcountTableEntry Block(HostOffset block) {
    RINGCOW_INVARIANT(block.value() != 0 && (block.value() & kReservedMask) == 0,
                      "not a refcount block offset");
    return RefcountTableEntry(block.value());
  }

  constexpr uint64_t raw() const { return raw_; }
  // Nothing when no block is allocated: the refcounts of all its clusters are 0.
  constexpr std::optional<HostOffset> block() const {
    const uint64_t offset = raw_ & ~kReservedMask;
    return offset == 0 ? std::nullopt : std::optional(HostOffset(offset));
  }
  constexpr uint64_t reserved_bits() const { return raw_ & kReservedMask; }

  // No reserved bit, the block aligned to a cluster and at a possible file offset. Whether it lies
  // inside the file is for the caller to check.
  bool IsValid(const Geometry& geometry) const {
    return reserved_bits() == 0 && raw_ <= kMaxFileOffset &&
           geometry.IsClusterAligned(HostOffset(raw_));
  }
  // The same, as a message with the place: InvalidArgument when not valid.
  absl::Status Validate(const Geometry& geometry, uint64_t table_index) const {
    return IsValid(geometry) ? absl::OkStatus() : WhatIsWrong(table_index);
  }

  friend constexpr bool operator==(RefcountTableEntry, RefcountTableEntry) = default;

 private:
  static constexpr uint64_t kReservedMask = 0x1ff;

  constexpr explicit RefcountTableEntry(uint64_t raw) : raw_(raw) {}

  absl::Status WhatIsWrong(uint64_t table_index) const;

  uint64_t raw_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_REFCOUNT_TABLE_ENTRY_H_
