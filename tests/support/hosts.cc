#include "tests/support/hosts.h"

#include <utility>

#include "engine/invariant.h"

namespace ringcow {

FileHost::FileHost(const std::string& path) {
  absl::StatusOr<std::unique_ptr<Rings>> rings = Rings::Create(loop_);
  RINGCOW_INVARIANT(rings.ok(), rings.status().ToString().c_str());
  rings_ = *std::move(rings);
  absl::StatusOr<std::unique_ptr<UringDisk>> disk =
      UringDisk::Open(*rings_, path, {.creation = UringDisk::Creation::kIfMissing});
  RINGCOW_INVARIANT(disk.ok(), disk.status().ToString().c_str());
  disk_ = *std::move(disk);
}

}  // namespace ringcow
