#ifndef RINGCOW_QCOW2_HOLES_H_
#define RINGCOW_QCOW2_HOLES_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "engine/task.h"
#include "qcow2/guest_disk.h"
#include "qcow2/metadata.h"
#include "qcow2/refcounts.h"

namespace ringcow {

// Knows which clusters are there by metadata alone: preallocated, and never written, so that they
// are holes of the file. To ask the file system costs a call or two for each extent, so it is asked
// only where much more of the image's file is in use than it takes on the host; QEMU draws the line
// there, too, also where the data is in another file.
class Holes {
 public:
  // `stored_bytes`: what the file takes on the host; nothing when nobody knows.
  Holes(Metadata& metadata, std::optional<uint64_t> stored_bytes)
      : metadata_(metadata), refcounts_(metadata), stored_bytes_(stored_bytes) {}

  // `extent` is as the tables say; where it is data, the beginning of it that is alike: data, or a
  // hole.
  Task<absl::StatusOr<GuestExtent>> LookInto(GuestExtent extent);

 private:
  // Whether much more is in use than `stored_bytes`.
  Task<absl::StatusOr<bool>> HasMany(uint64_t stored_bytes);

  Metadata& metadata_;
  Refcounts refcounts_;
  const std::optional<uint64_t> stored_bytes_;
  std::optional<bool> has_many_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_HOLES_H_
