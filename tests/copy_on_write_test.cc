// What has to be copied is read and written in one chain, where it is known where it lies.

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/loop.h"
#include "engine/testing/sim_disk.h"
#include "engine/uring_disk.h"
#include "gtest/gtest.h"
#include "qcow2/raw_image.h"
#include "tests/support/checked.h"
#include "tests/support/exchange.h"
#include "tests/support/hosts.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kClusters = 16;
constexpr uint64_t kBytes = kClusters * kCluster;
constexpr uint64_t kInCluster = 8192;  // where in their cluster the guest's bytes are
constexpr std::byte kNew{255};

// What the guest finds: each block differs from that of any other cluster, so that no memory which
// happens to hold old bytes can stand in for what was not read.
std::vector<std::byte> OldBytes(uint64_t offset, size_t bytes) {
  std::vector<std::byte> old(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    old[i] = static_cast<std::byte>((offset + i) / 512 % 251);
  }
  return old;
}

absl::Status WriteInCluster(Image& image, Loop& loop, uint64_t cluster) {
  AlignedBuffer bytes(4096);  // a chain does not bounce
  std::ranges::fill(bytes.span(), kNew);
  return loop.Run(image.Write(GuestOffset(cluster * kCluster + kInCluster), bytes.span()));
}

void ExpectCopied(Image& image, Loop& loop, uint64_t cluster) {
  std::vector<std::byte> expected = OldBytes(cluster * kCluster, kCluster);
  std::fill_n(expected.begin() + kInCluster, 4096, kNew);
  std::vector<std::byte> found(kCluster);
  ASSERT_EQ(loop.Run(image.Read(GuestOffset(cluster * kCluster), found)), absl::OkStatus());
  EXPECT_EQ(found, expected) << "cluster " << cluster;
}

class CopyAfterSnapshotTest : public testing::Test {
 protected:
  CopyAfterSnapshotTest() {
    EXPECT_EQ(Create(disk_, {.virtual_size = kBytes, .cluster_size = kCluster}), absl::OkStatus());
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk_);
    EXPECT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
    EXPECT_EQ(loop_.Run(image_->Write(GuestOffset(0), OldBytes(0, kBytes))), absl::OkStatus());
    Snapshot snapshot;
    snapshot.name = "s";
    EXPECT_EQ(loop_.Run(image_->CreateSnapshot(std::move(snapshot))), absl::OkStatus());
    // The tables are the image's own from here on.
    EXPECT_EQ(WriteInCluster(*image_, loop_, 0), absl::OkStatus());
    EXPECT_EQ(loop_.Run(image_->Flush()), absl::OkStatus());
    disk_.ResetCounters();
  }

  // Of the data requests from now on, the n-th and so many behind it end with `error`.
  void FailData(uint64_t first, uint64_t count, int error) {
    disk_.SetFaults([=, seen = uint64_t{0}](const Request& request, uint64_t) mutable {
      if (request.content != Content::kData) return Fault::None();
      const uint64_t ordinal = seen++;
      return ordinal >= first && ordinal - first < count ? Fault::Error(error) : Fault::None();
    });
  }

  Loop loop_;
  SimDisk disk_{loop_, {.record = false}};
  std::unique_ptr<Image> image_;
};

TEST_F(CopyAfterSnapshotTest, IsAChainOfTwoReadsAndAWrite) {
  for (uint64_t cluster = 1; cluster < kClusters; ++cluster) {
    ASSERT_EQ(WriteInCluster(*image_, loop_, cluster), absl::OkStatus());
  }
  EXPECT_EQ(disk_.counters().chains, kClusters - 1);
  EXPECT_EQ(disk_.counters().drains, 0U) << "guest data waits for nobody";
  EXPECT_EQ(disk_.counters()[Content::kData].reads, 2 * (kClusters - 1));
  EXPECT_EQ(disk_.counters()[Content::kData].writes, kClusters - 1);
  for (uint64_t cluster = 0; cluster < kClusters; ++cluster) {
    ExpectCopied(*image_, loop_, cluster);
  }
}

// Each member of the chain in turn.
TEST_F(CopyAfterSnapshotTest, AnInterruptedChainIsMadeUpFor) {
  for (uint64_t member = 0; member < 3; ++member) {
    FailData(member, 1, EINTR);
    ASSERT_EQ(WriteInCluster(*image_, loop_, 1 + member), absl::OkStatus()) << member;
    disk_.SetFaults(nullptr);
    ExpectCopied(*image_, loop_, 1 + member);
  }
}

TEST_F(CopyAfterSnapshotTest, WhatFailsAgainFails) {
  for (uint64_t member = 0; member < 3; ++member) {
    FailData(member, 100, EIO);
    EXPECT_EQ(ErrnoOf(WriteInCluster(*image_, loop_, 1 + member)), EIO) << member;
    disk_.SetFaults(nullptr);
    std::vector<std::byte> found(kCluster);
    ASSERT_EQ(loop_.Run(image_->Read(GuestOffset((1 + member) * kCluster), found)),
              absl::OkStatus());
    EXPECT_EQ(found, OldBytes((1 + member) * kCluster, kCluster))
        << "a write that fails has not happened";
  }
}

class CopyFromBackingTest : public testing::Test {
 protected:
  CopyFromBackingTest() {
    WriteFile(raw_.path(), OldBytes(0, kBytes));
    QemuImg({"convert", "-f", "raw", "-O", "qcow2", raw_.path(), qcow2_.path()});
    QemuImg({"convert", "-c", "-f", "raw", "-O", "qcow2", raw_.path(), compressed_.path()});
  }

  // Writes to every cluster over `backing`, and counts chains.
  uint64_t ChainsOver(GuestDisk& backing, FileHost& top) {
    EXPECT_EQ(Create(top.disk(), {.virtual_size = kBytes,
                                  .cluster_size = kCluster,
                                  .backing_file = "b",
                                  .backing_format = "raw"}),
              absl::OkStatus());
    OpenOptions options;
    options.backing = &backing;
    absl::StatusOr<std::unique_ptr<Image>> image = Open(top.disk(), options);
    EXPECT_TRUE(image.ok()) << image.status();
    top.disk().ResetCounters();
    for (uint64_t cluster = 0; cluster < kClusters; ++cluster) {
      EXPECT_EQ(WriteInCluster(**image, top.loop(), cluster), absl::OkStatus());
    }
    const uint64_t chains = top.disk().counters().chains;
    for (uint64_t cluster = 0; cluster < kClusters; ++cluster) {
      ExpectCopied(**image, top.loop(), cluster);
    }
    EXPECT_EQ(top.loop().Run((*image)->Close()), absl::OkStatus());
    return chains;
  }

  std::unique_ptr<UringDisk> OpenBase(Rings& rings, const std::string& path) {
    UringDisk::Options read_only;
    read_only.read_only = true;
    absl::StatusOr<std::unique_ptr<UringDisk>> disk = UringDisk::Open(rings, path, read_only);
    EXPECT_TRUE(disk.ok()) << disk.status();
    return *std::move(disk);
  }

  uint64_t ChainsOverQcow2(const std::string& path) {
    FileHost top(top_.path());
    const std::unique_ptr<UringDisk> disk = OpenBase(top.rings(), path);
    absl::StatusOr<std::unique_ptr<Image>> backing = Open(*disk, ReadOnly());
    EXPECT_TRUE(backing.ok()) << backing.status();
    return ChainsOver(**backing, top);
  }

  const TempFile raw_{".raw"};
  const TempFile qcow2_{".base.qcow2"};
  const TempFile compressed_{".compressed.qcow2"};
  const TempFile top_{".qcow2"};
};

TEST_F(CopyFromBackingTest, IsAChainOverARawFile) {
  FileHost top(top_.path());
  const std::unique_ptr<UringDisk> disk = OpenBase(top.rings(), raw_.path());
  RawImage backing(*disk, /*read_only=*/true);
  EXPECT_EQ(ChainsOver(backing, top), kClusters);
}

TEST_F(CopyFromBackingTest, IsAChainOverAQcow2FileWhoseTablesAreKnown) {
  EXPECT_EQ(ChainsOverQcow2(qcow2_.path()), kClusters);
}

TEST_F(CopyFromBackingTest, IsNoneWhereBytesAreNotStoredAsTheyAre) {
  EXPECT_EQ(ChainsOverQcow2(compressed_.path()), 0U);
}

TEST_F(CopyFromBackingTest, IsNoneOnOtherRings) {
  FileHost base(raw_.path());
  FileHost top(top_.path());
  EXPECT_FALSE(top.disk().CanLink(base.disk()));
  EXPECT_TRUE(top.disk().CanLink(top.disk()));
}

}  // namespace
}  // namespace ringcow
