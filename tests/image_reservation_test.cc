// Refcounts that are raised ahead of need, and clusters that are entered ahead of their data.

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/loop.h"
#include "engine/scope.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/check.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"

namespace ringcow {
namespace {

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kGuestClusters = 1024;

std::vector<std::byte> Filled(size_t bytes, uint8_t value) {
  return std::vector<std::byte>(bytes, std::byte{value});
}

OpenOptions WithoutReservation() {
  OpenOptions options;
  options.reserve_refcounts = false;
  return options;
}

OpenOptions WithoutEarlyEntry() {
  OpenOptions options;
  options.enter_zero_clusters_early = false;
  return options;
}

Snapshot NewSnapshot() {
  Snapshot snapshot;
  snapshot.name = "s";
  return snapshot;
}

class ReservationTest : public testing::Test {
 protected:
  explicit ReservationTest(const OpenOptions& options = {}) {
    EXPECT_EQ(Create(disk_, {.virtual_size = kGuestClusters * kCluster, .cluster_size = kCluster}),
              absl::OkStatus());
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk_, options);
    EXPECT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
  }

  absl::Status Write(uint64_t cluster) {
    return loop_.Run(image_->Write(GuestOffset(cluster * kCluster), data_));
  }
  absl::Status Flush() { return loop_.Run(image_->Flush()); }

  CheckResult CheckOfWhatIsThere() {
    Loop loop;
    SimDisk disk(loop, {}, disk_.content());
    const absl::StatusOr<CheckResult> result = loop.Run(CheckImage(disk, {}));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.value_or(CheckResult());
  }

  Loop loop_;
  SimDisk disk_{loop_, {.record = false}};
  std::unique_ptr<Image> image_;
  const std::vector<std::byte> data_ = Filled(4096, 7);
};

TEST_F(ReservationTest, AFlushAfterAnAllocationIsOneFsync) {
  ASSERT_EQ(Write(0), absl::OkStatus());
  ASSERT_EQ(Flush(), absl::OkStatus());
  disk_.ResetCounters();
  for (uint64_t cluster = 1; cluster <= 500; ++cluster) {
    ASSERT_EQ(Write(cluster), absl::OkStatus());
    ASSERT_EQ(Flush(), absl::OkStatus());
  }
  EXPECT_EQ(disk_.counters().fsyncs, 500U);
  // Half of what is reserved is used before there is more of it; at first there is less.
  EXPECT_LE(disk_.counters()[Content::kRefcountBlock].writes, 500U / 32 + 6);
}

class WithoutReservationTest : public ReservationTest {
 protected:
  WithoutReservationTest() : ReservationTest(WithoutReservation()) {}
};

TEST_F(WithoutReservationTest, AFlushAfterAnAllocationIsTwoFsyncs) {
  for (uint64_t cluster = 0; cluster < 100; ++cluster) {
    ASSERT_EQ(Write(cluster), absl::OkStatus());
    ASSERT_EQ(Flush(), absl::OkStatus());
  }
  EXPECT_GE(disk_.counters().fsyncs, 200U);
  EXPECT_TRUE(CheckOfWhatIsThere().is_clean());
}

TEST_F(ReservationTest, ACrashLeaksWhatWasReservedAndNoMore) {
  ASSERT_EQ(Write(0), absl::OkStatus());
  ASSERT_EQ(Flush(), absl::OkStatus());
  EXPECT_EQ(CheckOfWhatIsThere().leaks, 8U);
  for (uint64_t cluster = 1; cluster <= 300; ++cluster) {
    ASSERT_EQ(Write(cluster), absl::OkStatus());
    if (cluster % 10 != 0) continue;
    ASSERT_EQ(Flush(), absl::OkStatus());
    const CheckResult crashed = CheckOfWhatIsThere();
    EXPECT_EQ(crashed.corruptions, 0U);
    EXPECT_LE(crashed.leaks, std::min<uint64_t>(64, 2 * cluster + 8));
  }
  ASSERT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk_), "");
}

// As much as was written between two flushes suggests.
TEST_F(ReservationTest, GrowsWithWhatIsWritten) {
  for (uint64_t cluster = 0; cluster < 400; ++cluster) {
    ASSERT_EQ(Write(cluster), absl::OkStatus());
  }
  ASSERT_EQ(Flush(), absl::OkStatus());
  EXPECT_EQ(CheckOfWhatIsThere().leaks, 2 * (400U + 1));  // and an L2 table
  disk_.ResetCounters();
  for (uint64_t cluster = 400; cluster < 800; ++cluster) {
    ASSERT_EQ(Write(cluster), absl::OkStatus());
  }
  ASSERT_EQ(Flush(), absl::OkStatus());
  EXPECT_EQ(disk_.counters().fsyncs, 1U);
}

TEST_F(ReservationTest, NothingIsReservedBehindASnapshot) {
  ASSERT_EQ(Write(0), absl::OkStatus());
  ASSERT_EQ(Flush(), absl::OkStatus());
  ASSERT_EQ(loop_.Run(image_->CreateSnapshot(NewSnapshot())), absl::OkStatus());
  EXPECT_TRUE(CheckOfWhatIsThere().is_clean());
}

// The disk would have to grow; everything goes on until all of what it has is used.
TEST_F(ReservationTest, AFullDiskReservesNothing) {
  ASSERT_EQ(Write(0), absl::OkStatus());
  disk_.SetSizeLimit(disk_.size(), ENOSPC);
  ASSERT_EQ(Flush(), absl::OkStatus());
  uint64_t cluster = 1;
  while (Write(cluster).ok()) {
    ASSERT_EQ(Flush(), absl::OkStatus());
    ++cluster;
  }
  EXPECT_EQ(CheckOfWhatIsThere().leaks, 0U);
  EXPECT_GE(cluster, disk_.size() / kCluster - 8);
  ASSERT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk_), "");
}

// Every other cluster is free, and two in a row are wanted: what was reserved is passed by.
TEST_F(ReservationTest, WhatIsPassedByIsGivenBack) {
  for (uint64_t cluster = 0; cluster < 300; ++cluster) {
    ASSERT_EQ(Write(cluster), absl::OkStatus());
    if (cluster % 4 == 0) ASSERT_EQ(Flush(), absl::OkStatus());
  }
  for (uint64_t cluster = 0; cluster < 300; cluster += 2) {
    ASSERT_EQ(loop_.Run(image_->Discard(GuestOffset(cluster * kCluster), kCluster)),
              absl::OkStatus());
  }
  ASSERT_EQ(Flush(), absl::OkStatus());
  ASSERT_EQ(Flush(), absl::OkStatus());
  const std::vector<std::byte> two = Filled(2 * kCluster, 5);
  disk_.ResetCounters();
  for (uint64_t cluster = 300; cluster < 700; cluster += 2) {
    ASSERT_EQ(loop_.Run(image_->Write(GuestOffset(cluster * kCluster), two)), absl::OkStatus());
    ASSERT_EQ(Flush(), absl::OkStatus());
  }
  EXPECT_LE(disk_.counters().fsyncs, 200U + 20U);
  EXPECT_LE(CheckOfWhatIsThere().leaks, 64U);
  ASSERT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk_), "");
}

TEST_F(ReservationTest, AFailedImageReservesNothing) {
  ASSERT_EQ(Write(0), absl::OkStatus());
  ASSERT_EQ(Flush(), absl::OkStatus());
  for (uint64_t cluster = 1; cluster < 50; ++cluster) ASSERT_EQ(Write(cluster), absl::OkStatus());
  disk_.SetFaults([](const Request& request, uint64_t) {
    return request.op == Op::kFdatasync ? Fault::Error(EIO) : Fault::None();
  });
  EXPECT_FALSE(Flush().ok());
  disk_.SetFaults(nullptr);
  const DiskImage before = disk_.content();
  EXPECT_FALSE(Flush().ok());
  EXPECT_TRUE(before == disk_.content());
}

// Small tables, of which only two at a time are in memory: giving back has to read.
TEST(ReservationFaultTest, AFailedGiveBackKeepsWhatTheGuestWrote) {
  constexpr uint64_t kSmall = 512;
  Loop loop;
  SimDisk disk(loop, {.record = false});
  ASSERT_EQ(
      Create(disk, {.virtual_size = 512 * kSmall, .cluster_size = kSmall, .refcount_bits = 64}),
      absl::OkStatus());
  OpenOptions options;
  options.cache_slice_bytes = 512;
  options.refcount_cache_bytes = 1024;
  const std::unique_ptr<Image> image = *Open(disk, options);
  const std::vector<std::byte> data = Filled(kSmall, 7);
  for (uint64_t cluster = 0; cluster < 400; ++cluster) {
    ASSERT_EQ(loop.Run(image->Write(GuestOffset(cluster * kSmall), data)), absl::OkStatus());
  }
  ASSERT_EQ(loop.Run(image->Flush()), absl::OkStatus());
  for (const uint64_t cluster : {0, 70, 140, 210}) {
    ASSERT_EQ(loop.Run(image->Discard(GuestOffset(cluster * kSmall), kSmall)), absl::OkStatus());
  }
  ASSERT_EQ(loop.Run(image->Flush()), absl::OkStatus());
  ASSERT_EQ(loop.Run(image->WriteZeroes(GuestOffset(300 * kSmall), kSmall, ZeroManner::kKeepSpace)),
            absl::OkStatus());
  disk.SetFaults([](const Request& request, uint64_t) {
    const bool is_read = request.op == Op::kRead && request.content == Content::kRefcountBlock;
    return is_read ? Fault::Error(EIO) : Fault::None();
  });
  EXPECT_FALSE(loop.Run(image->Close()).ok());

  SimDisk left(loop, {.record = false}, disk.content());
  EXPECT_EQ(FindingsWithoutLeaks(left), "");
  const std::unique_ptr<Image> reopened = *Open(left, ReadOnly());
  std::vector<std::byte> found = Filled(kSmall, 9);
  ASSERT_EQ(loop.Run(reopened->Read(GuestOffset(300 * kSmall), found)), absl::OkStatus());
  EXPECT_EQ(found, Filled(kSmall, 0));
}

// Random work on two images, of which one does without: the same files in the end.
class SameLayoutTest : public testing::TestWithParam<uint64_t> {};

INSTANTIATE_TEST_SUITE_P(Seeds, SameLayoutTest, testing::Range<uint64_t>(1, 41),
                         testing::PrintToStringParamName());

DiskImage AfterRandomWork(uint64_t seed, const OpenOptions& options) {
  std::mt19937_64 random(seed);
  Loop loop;
  SimDisk disk(loop, {.record = false});
  const uint64_t cluster_bytes = uint64_t{512} << random() % 4;
  const uint64_t clusters = 700;
  EXPECT_EQ(Create(disk, {.virtual_size = clusters * cluster_bytes, .cluster_size = cluster_bytes}),
            absl::OkStatus());
  const std::unique_ptr<Image> image = *Open(disk, options);
  const std::vector<std::byte> data = Filled(40 * cluster_bytes, 5);
  for (int step = 0; step < 200; ++step) {
    const uint64_t length = (1 + random() % (random() % 8 == 0 ? 40 : 3)) * cluster_bytes;
    const GuestOffset offset(random() % (clusters - length / cluster_bytes) * cluster_bytes);
    absl::Status status;
    switch (random() % 8) {
      case 0:
        status = loop.Run(image->Discard(offset, length));
        break;
      case 1:
      case 2:
        status = loop.Run(image->Flush());
        break;
      case 3:
        if (random() % 8 == 0) status = loop.Run(image->CreateSnapshot(NewSnapshot()));
        break;
      default:
        status = loop.Run(image->Write(offset, std::span(data).first(length)));
    }
    EXPECT_EQ(status, absl::OkStatus());
  }
  EXPECT_EQ(loop.Run(image->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk), "");
  return disk.content();
}

TEST_P(SameLayoutTest, WithAndWithout) {
  const DiskImage with = AfterRandomWork(GetParam(), {});
  EXPECT_TRUE(with == AfterRandomWork(GetParam(), WithoutReservation()));
  EXPECT_TRUE(with == AfterRandomWork(GetParam(), WithoutEarlyEntry()));
}

// Sixteen writes to one fresh cluster, and how many of them were handed to the disk before it had
// answered the first.
size_t WritesAtATime(const OpenOptions& options) {
  constexpr size_t kWrites = 16;
  Loop loop;
  SimDisk disk(loop, {.latency = 1000});
  EXPECT_EQ(Create(disk, {.virtual_size = 64 * kCluster, .cluster_size = kCluster}),
            absl::OkStatus());
  const std::unique_ptr<Image> image = *Open(disk, options);
  const size_t begun = disk.trace().size();
  const std::vector<std::byte> data = Filled(4096, 1);
  Scope scope(loop);
  for (size_t i = 0; i < kWrites; ++i) {
    scope.Spawn(image->Write(GuestOffset(5 * kCluster + i * 4096), data));
  }
  EXPECT_EQ(loop.Run(scope.Join()), absl::OkStatus());
  size_t started = 0;
  for (size_t i = begun; i < disk.trace().size(); ++i) {
    const TraceEvent& event = disk.trace().events()[i];
    if (event.kind == TraceEvent::Kind::kMark || event.request->content != Content::kData ||
        event.request->op != Op::kWrite) {
      continue;
    }
    if (event.kind == TraceEvent::Kind::kCompleted) break;
    if (event.kind == TraceEvent::Kind::kStarted) ++started;
  }
  EXPECT_EQ(loop.Run(image->Close()), absl::OkStatus());
  return started;
}

TEST(EarlyEntryTest, LaterWritesJoinAClusterThatIsBeingWritten) {
  EXPECT_EQ(WritesAtATime({}), 16U);
  EXPECT_EQ(WritesAtATime(WithoutEarlyEntry()), 1U);
}

// The cluster stays, and holds the zeroes that the guest saw before.
TEST_F(ReservationTest, AFailedWriteLeavesZeroes) {
  disk_.SetFaults([](const Request& request, uint64_t) {
    const bool is_data = request.op == Op::kWrite && request.content == Content::kData;
    return is_data ? Fault::Error(EIO) : Fault::None();
  });
  EXPECT_FALSE(Write(3).ok());
  disk_.SetFaults(nullptr);
  std::vector<std::byte> found = Filled(kCluster, 9);
  ASSERT_EQ(loop_.Run(image_->Read(GuestOffset(3 * kCluster), found)), absl::OkStatus());
  EXPECT_EQ(found, Filled(kCluster, 0));
  ASSERT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk_), "");
}

}  // namespace
}  // namespace ringcow
