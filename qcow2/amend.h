#ifndef RINGCOW_QCOW2_AMEND_H_
#define RINGCOW_QCOW2_AMEND_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/image.h"

namespace ringcow {

// What an image is to be like from now on; what is missing stays.
struct AmendOptions {
  std::optional<uint32_t> version = std::nullopt;
  std::optional<uint64_t> virtual_size = std::nullopt;  // bytes
  std::optional<bool> lazy_refcounts = std::nullopt;
  std::optional<uint64_t> refcount_bits = std::nullopt;
  std::optional<std::string> data_file = std::nullopt;
  std::optional<bool> data_file_raw = std::nullopt;
  std::optional<std::string> backing_file = std::nullopt;
  std::optional<std::string> backing_format = std::nullopt;
  // Of both steps, in parts of any size.
  std::function<void(uint64_t done, uint64_t all)> on_progress = nullptr;
};

// An image is amended in two steps, between which it is closed. It can be opened, and reads the
// same, at every instant.

// All but the header, in `image` on `disk`, open for writing, in which nothing has changed yet.
// What cannot be is refused before anything changes, in QEMU's words.
Task<absl::Status> PrepareAmend(Disk& disk, Image& image, AmendOptions options);
// The header, at once and durably (see UpdateHeader); before it new refcounts, where they become
// wider or narrower, and after it the old ones are given up.
Task<absl::Status> FinishAmend(Disk& disk, AmendOptions options);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_AMEND_H_
