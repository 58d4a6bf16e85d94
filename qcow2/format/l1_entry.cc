#include "qcow2/format/l1_entry.h"

#include "absl/strings/str_format.h"

namespace ringcow {

absl::Status L1Entry::WhatIsWrong(uint64_t l1_index) const {
  if (reserved_bits() != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("L1 entry %#x has reserved bits set (L1 index: %#x)", raw_, l1_index));
  }
  return absl::InvalidArgumentError(absl::StrFormat("L2 table offset %#x unaligned (L1 index: %#x)",
                                                    raw_ & kOffsetMask, l1_index));
}

}  // namespace ringcow
