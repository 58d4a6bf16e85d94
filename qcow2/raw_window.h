#ifndef RINGCOW_QCOW2_RAW_WINDOW_H_
#define RINGCOW_QCOW2_RAW_WINDOW_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"

namespace ringcow {

// The part of a file that is a raw image, in bytes: QEMU's options `offset` and `size`. Without a
// size it ends with the file.
struct RawWindow {
  uint64_t offset = 0;
  std::optional<uint64_t> size = std::nullopt;

  // InvalidArgument, in QEMU's words, when that is not a part of a file of so many bytes.
  absl::Status Check(uint64_t file_bytes) const;
  // How much of such a file it is.
  uint64_t BytesOf(uint64_t file_bytes) const {
    const uint64_t behind = file_bytes > offset ? file_bytes - offset : 0;
    return size.has_value() && *size < behind ? *size : behind;
  }
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_RAW_WINDOW_H_
