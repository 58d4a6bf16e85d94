// Compressed writes: what is refused, how streams are packed, and what becomes of their space.

#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "engine/errno_status.h"
#include "engine/loop.h"
#include "engine/scope.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

constexpr uint64_t kCluster = 4096;
constexpr uint64_t kClusters = 64;

// `clusters` clusters that become streams of about a quarter of one.
Bytes Compressible(uint64_t clusters, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(clusters * kCluster);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>('a' + random() % 4);
  return bytes;
}

Bytes Incompressible(uint64_t clusters, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(clusters * kCluster);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

class ImageCompressedTest : public testing::Test {
 protected:
  void Make(CreateOptions options = {}, SimDisk::Options disk = {}) {
    disk.record = false;
    disk_ = std::make_unique<SimDisk>(loop_, disk);
    options.virtual_size = kClusters * kCluster;
    options.cluster_size = kCluster;
    ASSERT_EQ(Create(*disk_, options), absl::OkStatus());
    Open();
  }
  void Open(OpenOptions options = {}) {
    options.grow_ahead = false;
    auto image = ringcow::Open(*disk_, options);
    ASSERT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
  }
  void CloseAndCheck() {
    EXPECT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
    image_.reset();
    EXPECT_EQ(Findings(*disk_), "");
  }

  absl::Status WriteCompressed(uint64_t cluster, std::span<const std::byte> bytes) {
    return loop_.Run(image_->WriteCompressed(GuestOffset(cluster * kCluster), bytes));
  }
  absl::Status Write(uint64_t cluster, std::span<const std::byte> bytes) {
    return loop_.Run(image_->Write(GuestOffset(cluster * kCluster), bytes));
  }
  absl::Status Discard(uint64_t cluster, uint64_t clusters) {
    return loop_.Run(image_->Discard(GuestOffset(cluster * kCluster), clusters * kCluster));
  }
  absl::Status Flush() { return loop_.Run(image_->Flush()); }
  void ExpectReads(uint64_t cluster, const Bytes& bytes) {
    Bytes found(bytes.size());
    EXPECT_EQ(loop_.Run(image_->Read(GuestOffset(cluster * kCluster), found)), absl::OkStatus());
    EXPECT_TRUE(found == bytes) << "cluster " << cluster;
  }
  bool IsCompressed(uint64_t cluster) {
    return loop_.Run(image_->Find(GuestOffset(cluster * kCluster), 1))->compressed;
  }
  uint64_t DataWrites() const { return disk_->counters()[Content::kData].writes; }

  Loop loop_;
  std::unique_ptr<SimDisk> disk_;
  std::unique_ptr<Image> image_;
};

// The streams of one request are one write, and lie in as few clusters as they fill.
TEST_F(ImageCompressedTest, PacksStreamsBackToBack) {
  Make();
  ASSERT_EQ(Write(63, Incompressible(1, 1)), absl::OkStatus());  // brings the L2 table
  const uint64_t size_before = disk_->size();
  disk_->ResetCounters();
  const Bytes bytes = Compressible(8, 1);
  ASSERT_EQ(WriteCompressed(3, bytes), absl::OkStatus());
  EXPECT_EQ(DataWrites(), 1U);
  const uint64_t written = disk_->counters()[Content::kData].written_bytes;
  EXPECT_LT(written, bytes.size() / 2);
  EXPECT_EQ(disk_->size(), size_before + (written + kCluster - 1) / kCluster * kCluster);
  EXPECT_TRUE(IsCompressed(3));
  EXPECT_TRUE(IsCompressed(10));
  EXPECT_FALSE(IsCompressed(11));
  ExpectReads(3, bytes);
  CloseAndCheck();
}

// Packing goes on in the cluster where the last request ended.
TEST_F(ImageCompressedTest, PacksBehindTheRequestBefore) {
  Make();
  ASSERT_EQ(WriteCompressed(0, Compressible(1, 1)), absl::OkStatus());
  const uint64_t size = disk_->size();
  ASSERT_EQ(WriteCompressed(1, Compressible(1, 2)), absl::OkStatus());
  ASSERT_EQ(WriteCompressed(2, Compressible(1, 3)), absl::OkStatus());
  EXPECT_EQ(disk_->size(), size);
  ExpectReads(0, Compressible(1, 1));
  ExpectReads(1, Compressible(1, 2));
  ExpectReads(2, Compressible(1, 3));
  CloseAndCheck();
}

TEST_F(ImageCompressedTest, RefcountsOfOneBitGiveEachStreamAClusterOfItsOwn) {
  Make({.refcount_bits = 1});
  ASSERT_EQ(WriteCompressed(0, Compressible(1, 1)), absl::OkStatus());
  const uint64_t size = disk_->size();
  ASSERT_EQ(WriteCompressed(1, Compressible(3, 2)), absl::OkStatus());
  EXPECT_EQ(disk_->size(), size + 3 * kCluster);
  ExpectReads(1, Compressible(3, 2));
  CloseAndCheck();
}

TEST_F(ImageCompressedTest, RefcountsOfTwoBitsCountThreeStreams) {
  Make({.refcount_bits = 2});
  ASSERT_EQ(WriteCompressed(0, Bytes(kCluster)), absl::OkStatus());
  const uint64_t size = disk_->size();
  ASSERT_EQ(WriteCompressed(1, Bytes(2 * kCluster)), absl::OkStatus());
  EXPECT_EQ(disk_->size(), size);
  ASSERT_EQ(WriteCompressed(3, Bytes(kCluster)), absl::OkStatus());
  EXPECT_EQ(disk_->size(), size + kCluster);
  CloseAndCheck();
}

TEST_F(ImageCompressedTest, WritesZeroesCompressedToo) {
  Make();
  ASSERT_EQ(WriteCompressed(0, Bytes(kCluster)), absl::OkStatus());
  EXPECT_TRUE(IsCompressed(0));
  CloseAndCheck();
}

TEST_F(ImageCompressedTest, StoresWhatDoesNotBecomeSmallerAsItIs) {
  Make();
  Bytes bytes = Compressible(2, 1);
  const Bytes middle = Incompressible(2, 2);
  bytes.insert(bytes.end(), middle.begin(), middle.end());
  const Bytes end = Compressible(1, 3);
  bytes.insert(bytes.end(), end.begin(), end.end());
  ASSERT_EQ(WriteCompressed(0, bytes), absl::OkStatus());
  EXPECT_TRUE(IsCompressed(1));
  EXPECT_FALSE(IsCompressed(2));
  EXPECT_FALSE(IsCompressed(3));
  EXPECT_TRUE(IsCompressed(4));
  ExpectReads(0, bytes);
  CloseAndCheck();
}

// All of it as qemu-io has it.
TEST_F(ImageCompressedTest, ReplacesNoCluster) {
  Make();
  ASSERT_EQ(Write(0, Bytes(kCluster, std::byte{1})), absl::OkStatus());
  ASSERT_EQ(WriteCompressed(1, Compressible(1, 1)), absl::OkStatus());
  ASSERT_EQ(Write(2, Bytes(kCluster, std::byte{1})), absl::OkStatus());
  ASSERT_EQ(
      loop_.Run(image_->WriteZeroes(GuestOffset(2 * kCluster), kCluster, ZeroManner::kKeepSpace)),
      absl::OkStatus());
  for (const uint64_t cluster : {0, 1, 2}) {
    EXPECT_EQ(ErrnoOf(WriteCompressed(cluster, Compressible(1, 9))), EIO) << cluster;
    EXPECT_EQ(ErrnoOf(WriteCompressed(cluster, Compressible(2, 9))), EIO) << cluster;
  }
  ExpectReads(0, Bytes(kCluster, std::byte{1}));
  ExpectReads(1, Compressible(1, 1));
  ExpectReads(2, Bytes(kCluster));
  // What does not become smaller does, and zeroes without a cluster are none.
  ASSERT_EQ(WriteCompressed(0, Incompressible(3, 4)), absl::OkStatus());
  ExpectReads(0, Incompressible(3, 4));
  ASSERT_EQ(Discard(0, 3), absl::OkStatus());
  ASSERT_EQ(WriteCompressed(0, Compressible(3, 5)), absl::OkStatus());
  ExpectReads(0, Compressible(3, 5));
  CloseAndCheck();
}

// What comes before the cluster that is refused was written.
TEST_F(ImageCompressedTest, StopsAtTheClusterThatIsRefused) {
  Make();
  ASSERT_EQ(Write(2, Bytes(kCluster, std::byte{1})), absl::OkStatus());
  const Bytes bytes = Compressible(4, 1);
  EXPECT_EQ(ErrnoOf(WriteCompressed(0, bytes)), EIO);
  ExpectReads(0, Bytes(bytes.begin(), bytes.begin() + 2 * kCluster));
  ExpectReads(2, Bytes(kCluster, std::byte{1}));
  ExpectReads(3, Bytes(kCluster));
  CloseAndCheck();
}

TEST_F(ImageCompressedTest, TakesWholeClustersOnly) {
  Make();
  const Bytes bytes = Compressible(2, 1);
  const auto write = [&](uint64_t offset, uint64_t length) {
    return ErrnoOf(
        loop_.Run(image_->WriteCompressed(GuestOffset(offset), std::span(bytes).first(length))));
  };
  EXPECT_EQ(write(0, 512), EINVAL);
  EXPECT_EQ(write(0, kCluster + 512), EINVAL);
  EXPECT_EQ(write(512, kCluster - 512), EINVAL);
  EXPECT_EQ(write(512, kCluster), EINVAL);
  EXPECT_EQ(write(100, 0), 0);
  EXPECT_TRUE(absl::IsOutOfRange(WriteCompressed(kClusters - 1, bytes)));
  // But for the end of the disk.
  ASSERT_EQ(loop_.Run(image_->Resize(kClusters * kCluster - 1024, Preallocation::kOff)),
            absl::OkStatus());
  EXPECT_EQ(write((kClusters - 1) * kCluster, 512), EINVAL);
  EXPECT_EQ(write((kClusters - 1) * kCluster, kCluster - 1024), 0);
  ExpectReads(kClusters - 1, Bytes(bytes.begin(), bytes.begin() + kCluster - 1024));
  CloseAndCheck();
}

TEST_F(ImageCompressedTest, NotWhenOpenForReading) {
  Make();
  CloseAndCheck();
  Open(ReadOnly());
  EXPECT_TRUE(absl::IsPermissionDenied(WriteCompressed(0, Compressible(1, 1))));
}

// A snapshot refers to the same streams; each cluster counts both.
TEST_F(ImageCompressedTest, StreamsAreSharedWithSnapshots) {
  Make();
  ASSERT_EQ(WriteCompressed(0, Compressible(3, 1)), absl::OkStatus());
  ASSERT_EQ(loop_.Run(image_->CreateSnapshot(Snapshot())), absl::OkStatus());
  ASSERT_EQ(Discard(1, 1), absl::OkStatus());
  ASSERT_EQ(WriteCompressed(1, Compressible(1, 2)), absl::OkStatus());
  ExpectReads(1, Compressible(1, 2));
  ASSERT_EQ(loop_.Run(image_->ApplySnapshot(0)), absl::OkStatus());
  ExpectReads(0, Compressible(3, 1));
  ASSERT_EQ(WriteCompressed(5, Compressible(2, 3)), absl::OkStatus());
  ASSERT_EQ(loop_.Run(image_->DeleteSnapshot(0)), absl::OkStatus());
  ExpectReads(5, Compressible(2, 3));
  CloseAndCheck();
}

// The cluster that packing goes on in loses its last stream: it may be anybody's.
TEST_F(ImageCompressedTest, PacksNothingIntoAClusterThatBecameFree) {
  Make();
  ASSERT_EQ(WriteCompressed(0, Compressible(1, 1)), absl::OkStatus());
  ASSERT_EQ(Write(0, Incompressible(1, 4)), absl::OkStatus());
  ASSERT_EQ(Flush(), absl::OkStatus());
  ASSERT_EQ(Write(1, Incompressible(1, 2)), absl::OkStatus());  // reuses it
  ASSERT_EQ(WriteCompressed(3, Compressible(1, 3)), absl::OkStatus());
  ExpectReads(1, Incompressible(1, 2));
  ExpectReads(3, Compressible(1, 3));
  CloseAndCheck();
}

// The same while its space is being given back to the host. On a disk that takes any bytes: on
// another one a write of parts of blocks waits for the end of the punch.
TEST_F(ImageCompressedTest, PacksNothingIntoAClusterThatIsBeingPunched) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Make({}, {.seed = seed, .alignment = 1, .memory_alignment = 1, .latency = 8});
    ASSERT_EQ(WriteCompressed(0, Compressible(1, 1)), absl::OkStatus());
    ASSERT_EQ(Flush(), absl::OkStatus());
    ASSERT_EQ(Discard(0, 1), absl::OkStatus());
    const Bytes bytes = Compressible(1, 2);
    Scope both(loop_);
    both.Spawn(image_->Flush());
    // From the moment in which the punch is under way.
    const uint64_t punches = disk_->counters().allocations;
    const auto write = [](Image& image, SimDisk& disk, uint64_t before,
                          std::span<const std::byte> from) -> Task<absl::Status> {
      while (disk.counters().allocations == before) co_await disk.loop().Yield();
      co_return co_await image.WriteCompressed(GuestOffset(8 * kCluster), from);
    };
    both.Spawn(write(*image_, *disk_, punches, bytes));
    ASSERT_EQ(loop_.Run(both.Join()), absl::OkStatus());
    ExpectReads(8, bytes);
    CloseAndCheck();
  }
}

// Nothing refers to streams that were not written: they leak neither clusters nor references.
TEST_F(ImageCompressedTest, GivesBackWhatCouldNotBeWritten) {
  Make();
  ASSERT_EQ(WriteCompressed(0, Compressible(1, 1)), absl::OkStatus());
  disk_->SetFaults([](const Request& request, uint64_t) {
    const bool is_data = request.op == Op::kWrite && request.content == Content::kData;
    return is_data ? Fault::Error(EIO) : Fault::None();
  });
  EXPECT_EQ(ErrnoOf(WriteCompressed(1, Compressible(8, 2))), EIO);
  disk_->SetFaults(nullptr);
  ExpectReads(0, Compressible(1, 1));
  ExpectReads(1, Bytes(8 * kCluster));
  ASSERT_EQ(WriteCompressed(1, Compressible(8, 3)), absl::OkStatus());
  ExpectReads(1, Compressible(8, 3));
  CloseAndCheck();
}

// On a full disk there may be clusters that only wait for a flush. What was written before is not
// written again, which would be refused.
TEST_F(ImageCompressedTest, FreesSpaceBeforeADiskCountsAsFull) {
  Make({.refcount_bits = 1});
  ASSERT_EQ(WriteCompressed(0, Compressible(12, 1)), absl::OkStatus());
  ASSERT_EQ(Flush(), absl::OkStatus());
  disk_->SetSizeLimit(disk_->size(), ENOSPC);
  EXPECT_EQ(ErrnoOf(WriteCompressed(20, Compressible(1, 2))), ENOSPC);
  ASSERT_EQ(Discard(0, 2), absl::OkStatus());
  ASSERT_EQ(Flush(), absl::OkStatus());  // two clusters are free at once
  ASSERT_EQ(Discard(2, 4), absl::OkStatus());
  ASSERT_EQ(WriteCompressed(20, Compressible(6, 3)), absl::OkStatus());
  ExpectReads(20, Compressible(6, 3));
  ExpectReads(0, Bytes(6 * kCluster));
  EXPECT_EQ(ErrnoOf(WriteCompressed(30, Compressible(1, 2))), ENOSPC);
  CloseAndCheck();
}

}  // namespace
}  // namespace ringcow
