// What an open image gives back: the space of clusters that nothing refers to, and the memory of
// tables that nobody uses.

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "engine/errno_status.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/image.h"
#include "qcow2/raw_image.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kCluster = 4096;
constexpr uint64_t kBytes = 16 * kCluster;

class SpaceOfImage {
 public:
  explicit SpaceOfImage(PassDiscardOptions pass_discard) {
    EXPECT_EQ(Create(disk_, {.virtual_size = 1 << 20, .cluster_size = kCluster}), absl::OkStatus());
    OpenOptions options;
    options.pass_discard = pass_discard;
    options.grow_ahead = false;
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk_, options);
    EXPECT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
  }

  Image& image() { return *image_; }
  void Run(Task<absl::Status> task) { EXPECT_EQ(loop_.Run(std::move(task)), absl::OkStatus()); }
  void Write(std::byte byte) {
    const Bytes bytes(kBytes, byte);
    Run(image_->Write(GuestOffset(0), bytes));
  }

  // Closes it, and answers all bytes of the disk.
  Bytes CloseAndReadDisk() {
    Run(image_->Close());
    image_.reset();
    EXPECT_EQ(Findings(disk_), "");
    Bytes all(disk_.content().size());
    disk_.content().Read(0, all);
    return all;
  }

 private:
  Loop loop_;
  SimDisk disk_{loop_, {.record = false}};
  std::unique_ptr<Image> image_;
};

constexpr std::byte kOld{0x5a};
constexpr std::byte kNew{0xa5};

int64_t Count(const Bytes& bytes, std::byte byte) { return std::ranges::count(bytes, byte); }

int64_t LeftOfADeletedSnapshot(bool passes) {
  SpaceOfImage run({.request = false, .snapshot = passes, .other = false});
  run.Write(kOld);
  run.Run(run.image().CreateSnapshot(Snapshot()));
  run.Write(kNew);
  run.Run(run.image().DeleteSnapshot(0));
  return Count(run.CloseAndReadDisk(), kOld);
}

TEST(ImageSpace, ADeletedSnapshotGivesItsOwnBack) {
  EXPECT_GE(LeftOfADeletedSnapshot(false), kBytes);
  EXPECT_LT(LeftOfADeletedSnapshot(true), kCluster);
}

int64_t LeftOfADiscard(bool passes) {
  SpaceOfImage run({.request = passes, .snapshot = false, .other = false});
  run.Write(kOld);
  run.Run(run.image().Discard(GuestOffset(0), kBytes));
  run.Run(run.image().Flush());
  return Count(run.CloseAndReadDisk(), kOld);
}

TEST(ImageSpace, ADiscardGivesItsClustersBack) {
  EXPECT_GE(LeftOfADiscard(false), kBytes);
  EXPECT_LT(LeftOfADiscard(true), kCluster);
}

// What is neither zero nor new.
int64_t LeftOfCompressedClusters(bool passes) {
  SpaceOfImage run({.request = false, .snapshot = false, .other = passes});
  Bytes bytes(kBytes);
  std::mt19937 random(1);
  for (std::byte& byte : bytes) byte = std::byte(random() % 16);  // half of it, when compressed
  run.Run(run.image().WriteCompressed(GuestOffset(0), bytes));
  run.Run(run.image().Flush());
  run.Write(kNew);
  run.Run(run.image().Flush());
  const Bytes left = run.CloseAndReadDisk();
  return static_cast<int64_t>(left.size()) - Count(left, kNew) - Count(left, std::byte{0});
}

TEST(ImageSpace, WhatIsReplacedGivesItsClustersBackOnRequest) {
  EXPECT_GT(LeftOfCompressedClusters(false), kBytes / 3);
  EXPECT_LT(LeftOfCompressedClusters(true), kBytes / 8);
}

// Its data could not be filled up with the backing file's, and no table names its clusters.
TEST(ImageSpace, AWriteThatFailedGivesItsClustersBack) {
  Loop loop;
  SimDisk backing_disk(loop, {.record = false});
  RawImage backing(backing_disk, /*read_only=*/false);
  ASSERT_EQ(loop.Run(backing.Resize(1 << 20, Preallocation::kFull)), absl::OkStatus());
  SimDisk disk(loop, {.record = false});
  ASSERT_EQ(Create(disk, {.virtual_size = 1 << 20,
                          .cluster_size = kCluster,
                          .backing_file = "backing",
                          .backing_format = "raw"}),
            absl::OkStatus());
  OpenOptions options;
  options.backing = &backing;
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
  ASSERT_TRUE(image.ok()) << image.status();
  backing_disk.SetFaults([](const Request&, uint64_t) { return Fault::Error(EIO); });
  const Bytes bytes(100, kNew);
  EXPECT_EQ(ErrnoOf(loop.Run((*image)->Write(GuestOffset(1000), bytes))), EIO);
  ASSERT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
  image->reset();
  EXPECT_EQ(Findings(disk), "");
}

// What was discarded is free from the next flush on, which a write on a full disk does not wait
// for.
TEST(ImageSpace, OnAFullDiskWhatWasDiscardedIsUsedAgain) {
  Loop loop;
  SimDisk disk(loop, {.record = false});
  ASSERT_EQ(Create(disk, {.virtual_size = 8 << 20, .cluster_size = kCluster}), absl::OkStatus());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  ASSERT_TRUE(image.ok()) << image.status();
  disk.SetSizeLimit(1 << 20, ENOSPC);
  const Bytes bytes(kBytes, kNew);
  uint64_t end = 0;
  absl::Status status;
  while (end < 4 << 20 &&
         (status = loop.Run((*image)->Write(GuestOffset(end), bytes))) == absl::OkStatus()) {
    end += kBytes;
  }
  ASSERT_EQ(ErrnoOf(status), ENOSPC) << status;
  ASSERT_EQ(loop.Run((*image)->Discard(GuestOffset(0), 2 * kBytes)), absl::OkStatus());
  EXPECT_EQ(loop.Run((*image)->Write(GuestOffset(end + kBytes), bytes)), absl::OkStatus());
  ASSERT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
  image->reset();
  EXPECT_EQ(Findings(disk), "");
}

TEST(ImageSpace, TablesThatNobodyUsesLeaveTheCache) {
  Loop loop;
  SimDisk disk(loop, {.record = false});
  ASSERT_EQ(Create(disk, {.virtual_size = 64 << 20, .cluster_size = kCluster}), absl::OkStatus());
  OpenOptions options;
  options.cache_read_bytes = 0;
  for (const bool cleans : {false, true}) {
    options.cache_clean_interval = std::chrono::milliseconds(cleans ? 1 : 0);
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
    ASSERT_TRUE(image.ok()) << image.status();
    // Of different L2 tables.
    constexpr GuestOffset kFirst(0);
    constexpr GuestOffset kOther(32 << 20);
    Bytes bytes(kCluster, kNew);
    ASSERT_EQ(loop.Run((*image)->Write(kFirst, bytes)), absl::OkStatus());
    ASSERT_EQ(loop.Run((*image)->Write(kOther, bytes)), absl::OkStatus());
    ASSERT_EQ(loop.Run((*image)->Flush()), absl::OkStatus());
    // In use when it is cleaned for the first time, and not when it is for the second.
    for (int i = 0; i < 2; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ASSERT_EQ(loop.Run((*image)->Read(kOther, bytes)), absl::OkStatus());
    }
    const uint64_t before = (*image)->counters()[Content::kL2].reads;
    ASSERT_EQ(loop.Run((*image)->Read(kFirst, bytes)), absl::OkStatus());
    EXPECT_EQ((*image)->counters()[Content::kL2].reads - before, cleans ? 1U : 0U);
    EXPECT_EQ(bytes, Bytes(kCluster, kNew));
    ASSERT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
  }
}

}  // namespace
}  // namespace ringcow
