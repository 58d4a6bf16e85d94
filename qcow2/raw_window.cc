#include "qcow2/raw_window.h"

#include "absl/strings/str_format.h"
#include "qcow2/format/limits.h"

namespace ringcow {

absl::Status RawWindow::Check(uint64_t file_bytes) const {
  if (offset > file_bytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "Offset (%d) cannot be greater than size of the containing file (%d)", offset, file_bytes));
  }
  if (!size.has_value()) return absl::OkStatus();
  if (*size > file_bytes - offset) {
    return absl::InvalidArgumentError(
        absl::StrFormat("The sum of offset (%d) and size (%d) has to be smaller or equal to the  "
                        "actual size of the containing file (%d)",
                        offset, *size, file_bytes));
  }
  if (*size % kSectorBytes == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("Specified size is not multiple of %d", kSectorBytes));
}

}  // namespace ringcow
