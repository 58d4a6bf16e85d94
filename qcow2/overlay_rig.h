#ifndef RINGCOW_QCOW2_OVERLAY_RIG_H_
#define RINGCOW_QCOW2_OVERLAY_RIG_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/loop.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/create.h"
#include "qcow2/image.h"
#include "qcow2/raw_image.h"

namespace ringcow {

// For tests of what lies on an image: an empty one over a raw file, both on simulated disks.
class OverlayRig {
 public:
  static constexpr uint64_t kCluster = 4096;

  explicit OverlayRig(std::vector<std::byte> backing_bytes) : pattern_(std::move(backing_bytes)) {
    const uint64_t bytes = pattern_.size();
    EXPECT_EQ(loop_.Run(backing_.Resize(bytes, Preallocation::kOff)), absl::OkStatus());
    EXPECT_EQ(loop_.Run(backing_.Write(GuestOffset(0), pattern_)), absl::OkStatus());
    EXPECT_EQ(loop_.Run(CreateImage(disk_, {.virtual_size = bytes,
                                            .cluster_size = kCluster,
                                            .backing_file = "backing",
                                            .backing_format = "raw"})),
              absl::OkStatus());
  }

  // To be closed before the rig ends.
  std::unique_ptr<Image> Open() {
    OpenOptions options;
    options.backing = &backing_;
    return loop_.Run(Image::Open(disk_, options)).value();
  }

  Loop& loop() { return loop_; }
  SimDisk& disk() { return disk_; }
  // The backing file's.
  const std::vector<std::byte>& pattern() const { return pattern_; }

 private:
  const std::vector<std::byte> pattern_;
  Loop loop_;
  SimDisk backing_disk_{loop_, {.seed = 1, .record = false}};
  SimDisk disk_{loop_, {.seed = 2, .latency = 8, .record = false}};
  RawImage backing_{backing_disk_, /*read_only=*/false};
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_OVERLAY_RIG_H_
