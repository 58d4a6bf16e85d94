#include "qcow2/format/refcount_table_entry.h"

#include "absl/strings/str_format.h"

namespace ringcow {

absl::Status RefcountTableEntry::WhatIsWrong(uint64_t table_index) const {
  if (reserved_bits() != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "Refcount table entry %#x has reserved bits set (reftable index: %#x)", raw_, table_index));
  }
  if (raw_ > kMaxFileOffset) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "Refblock offset %#x is beyond any file's end (reftable index: %#x)", raw_, table_index));
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("Refblock offset %#x unaligned (reftable index: %#x)", raw_, table_index));
}

}  // namespace ringcow
