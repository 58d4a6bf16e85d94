// Images that nobody makes by accident: a check ends, in time and memory that the size of the file
// bounds, and never crashes. And disks that fail.

#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/loop.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/sanitized.h"
#include "engine/testing/sim_disk.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qcow2/check.h"
#include "qcow2/check_oracle.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/header.h"

namespace ringcow {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr uint64_t kCopied = uint64_t{1} << 63;

void Put64(DiskImage& image, uint64_t offset, uint64_t value) {
  const Be64 bytes(value);
  image.Write(offset, std::as_bytes(std::span(&bytes, 1)));
}

void Fill64(DiskImage& image, uint64_t offset, uint64_t count, uint64_t value) {
  const std::vector<Be64> bytes(count, Be64(value));
  image.Write(offset, std::as_bytes(std::span(bytes)));
}

void PutHeader(DiskImage& image, const Header& header) { image.Write(0, *SerializeHeader(header)); }

// A refcount table of one cluster at `refcount_table`, and no L1 table.
Header SmallHeader(uint32_t cluster_bits, uint64_t refcount_table) {
  Header header;
  header.cluster_bits = cluster_bits;
  header.refcount_table_offset = HostOffset(refcount_table);
  header.refcount_table_clusters = 1;
  return header;
}

struct Checked {
  CheckResult result;
  uint64_t lines = 0;
};

// Lines are counted only, for there may be millions.
Checked Check(DiskImage image) {
  Loop loop;
  SimDisk disk(loop, {.record = false}, std::move(image));
  Checked checked;
  CheckOptions options;
  options.report = [&](absl::string_view) { ++checked.lines; };
  const auto result = loop.Run(CheckImage(disk, options));
  EXPECT_TRUE(result.ok()) << result.status();
  checked.result = result.value_or(CheckResult());
  return checked;
}

TEST(CheckHostileTest, MillionsOfL1EntriesWithOneL2Table) {
  constexpr uint64_t kCluster = uint64_t{2} << 20;
  constexpr uint64_t kL2Entries = kCluster / 8;
  constexpr uint64_t kL1Entries = kIsSanitized ? kMaxL1Entries / 16 : kMaxL1Entries;
  DiskImage image;
  Header header = SmallHeader(21, kCluster);
  header.l1_table_offset = HostOffset(2 * kCluster);
  header.l1_entries = static_cast<uint32_t>(kL1Entries);
  PutHeader(image, header);
  const uint64_t l2_table = header.l1_table_offset.value() + 8 * kL1Entries;
  Fill64(image, header.l1_table_offset.value(), kL1Entries, l2_table | kCopied);
  Fill64(image, l2_table, kL2Entries, l2_table + kCluster);
  image.Resize(l2_table + 2 * kCluster);

  const CheckResult result = Check(std::move(image)).result;
  EXPECT_EQ(result.allocated_clusters, kL1Entries * kL2Entries);
  EXPECT_EQ(result.fragmented_clusters, kL1Entries * (kL2Entries - 1));
  const uint64_t overflows = kL1Entries * kL2Entries + kL1Entries - 2 * uint64_t{0xffff};
  // Header, refcount table, L1 table, L2 table and data cluster have no refcount; each of the L1
  // entries has COPIED.
  EXPECT_EQ(result.corruptions, overflows + 4 + 8 * kL1Entries / kCluster + kL1Entries);
}

TEST(CheckHostileTest, SnapshotsWhoseL1TablesOverlap) {
  constexpr uint64_t kCluster = 512;
  constexpr uint64_t kSnapshots = 65536;
  constexpr uint64_t kL1 = uint64_t{64} << 20;
  DiskImage image;
  Header header = SmallHeader(9, kCluster);
  header.snapshots_offset = HostOffset(2 * kCluster);
  header.nb_snapshots = kSnapshots;
  PutHeader(image, header);
  for (uint64_t i = 0; i < kSnapshots; ++i) {
    const uint64_t entry = 2 * kCluster + i * 56;
    Put64(image, entry, kL1 + i * kCluster);
    Put64(image, entry + 8, kMaxL1Entries << 32);
    Put64(image, entry + 32, 16);
  }
  // One L1 entry that the first 1000 have, one that all have.
  const uint64_t l2_table = kL1 + kMaxL1Bytes + kSnapshots * kCluster;
  Put64(image, kL1 + 999 * kCluster, l2_table);
  Put64(image, kL1 + kMaxL1Bytes - 8, l2_table);
  image.Resize(l2_table + kCluster);
  const CheckReport report = CheckSimulated(std::move(image));
  EXPECT_EQ(report.exit_code, 2);
  EXPECT_THAT(report.lines, Contains(absl::StrCat("ERROR cluster ", l2_table / kCluster,
                                                  " refcount=0 reference=65535")));
  EXPECT_THAT(report.lines, Contains("ERROR cluster 131072 refcount=0 reference=1"));
  EXPECT_THAT(report.lines, Contains("ERROR cluster 131171 refcount=0 reference=100"));
}

TEST(CheckHostileTest, BitmapDirectoryOfTheSizeOfASparseFile) {
  constexpr uint64_t kCluster = 65536;
  constexpr uint64_t kDirectoryBytes = uint64_t{1} << 38;
  DiskImage image;
  Header header = SmallHeader(16, kCluster);
  header.autoclear_features = kAutoclearBitmaps;
  const Be64 extension[] = {Be64(uint64_t{1} << 32), Be64(kDirectoryBytes), Be64(2 * kCluster)};
  const auto bytes = std::as_bytes(std::span(extension));
  header.extensions.bitmaps.emplace(bytes.begin(), bytes.end());
  PutHeader(image, header);
  image.Resize(2 * kCluster + kDirectoryBytes);
  const CheckResult result = Check(std::move(image)).result;
  EXPECT_EQ(result.stopped_by, EINVAL);
  EXPECT_GT(result.check_errors, 0U);
}

uint64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t pages = 0;
  statm >> pages >> pages;
  return pages * 4096;
}

// In a process of its own, so that the peak is that of the check.
[[noreturn]] void CheckSparseImage() {
  constexpr uint64_t kCluster = 65536;
  constexpr uint64_t kFileBytes = uint64_t{16} << 40;
  DiskImage image;
  Header header = SmallHeader(16, kCluster);
  header.virtual_size = uint64_t{1} << 50;
  header.l1_table_offset = HostOffset(2 * kCluster);
  header.l1_entries = 1 << 21;
  PutHeader(image, header);
  for (uint64_t i = 0; i < 1000; ++i) {
    Put64(image, 2 * kCluster + 8 * i, kFileBytes / 1000 * i / kCluster * kCluster);
  }
  image.Resize(kFileBytes);
  const uint64_t before = ResidentBytes();
  const uint64_t corruptions = Check(std::move(image)).result.corruptions;
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const uint64_t grown = usage.ru_maxrss * uint64_t{1024} - before;
  // Header, refcount table, 256 clusters of L1 table, 999 L2 tables.
  std::_Exit(corruptions == 1257 && grown < (uint64_t{64} << 20) ? 0 : 1);
}

TEST(CheckHostileTest, HolesCostNoMemory) {
  EXPECT_EXIT(CheckSparseImage(), ::testing::ExitedWithCode(0), "");
}

TEST(CheckHostileTest, MoreClustersThanQemuChecks) {
  DiskImage image;
  PutHeader(image, SmallHeader(9, 512));
  image.Resize((uint64_t{1} << 40) - 512);
  EXPECT_EQ(Check(image).result.stopped_by, 0);
  image.Resize(uint64_t{1} << 40);
  EXPECT_EQ(Check(image).result.stopped_by, EFBIG);
}

TEST(CheckHostileTest, ImpossibleOffsets) {
  for (const uint64_t offset : {~uint64_t{0}, uint64_t{1} << 63, (uint64_t{1} << 63) - 512}) {
    Header header = SmallHeader(9, 512);
    std::vector<std::byte> crypto(16);
    StoreBe<uint64_t>(crypto.data(), offset);
    StoreBe<uint64_t>(crypto.data() + 8, ~uint64_t{0});
    header.extensions.crypto_header = crypto;
    DiskImage image;
    PutHeader(image, header);
    image.Resize(4096);
    const CheckReport report = CheckSimulated(image);
    EXPECT_THAT(report.lines, Contains(HasSubstr("exceeding the end of the file")));

    header.extensions.crypto_header.reset();
    header.snapshots_offset = HostOffset(1024);
    header.nb_snapshots = 1;
    PutHeader(image, header);
    Put64(image, 1024, offset / 512 * 512);
    Put64(image, 1032, uint64_t{1000} << 32);
    Put64(image, 1056, 16);
    const CheckReport snapshot = CheckSimulated(image);
    EXPECT_EQ(snapshot.exit_code, 1);
    EXPECT_THAT(snapshot.lines, Contains(HasSubstr("I/O error in check_refcounts_l1")));
  }
}

// Whatever stands in the tables, the check ends and its verdict fits its counts.
TEST(CheckHostileTest, RandomTables) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 300; ++round) {
    const uint32_t cluster_bits = 9 + static_cast<uint32_t>(random() % 4);
    const uint64_t cluster = uint64_t{1} << cluster_bits;
    Header header = SmallHeader(cluster_bits, random() % 30 * cluster + cluster);
    header.refcount_order = static_cast<uint32_t>(random() % 7);
    header.refcount_table_clusters = static_cast<uint32_t>(random() % 10);
    header.l1_table_offset = HostOffset((1 + random() % 30) * cluster);
    header.l1_entries = static_cast<uint32_t>(1 + random() % 500);
    header.snapshots_offset = HostOffset(random() % 30 * cluster);
    header.nb_snapshots = static_cast<uint32_t>(random() % 10);
    if (random() % 3 == 0) header.incompatible_features |= kIncompatibleExtendedL2;
    if (random() % 3 == 0) header.incompatible_features |= kIncompatibleExternalDataFile;
    DiskImage image;
    PutHeader(image, header);
    for (uint64_t at = cluster; at < 40 * cluster; at += 8) {
      const uint64_t kind = random() % 8;
      if (kind == 0) Put64(image, at, random());
      if (kind == 1) Put64(image, at, random() % 50 * cluster);
      if (kind == 2) Put64(image, at, random() % 50 * cluster | kCopied);
      if (kind == 3) Put64(image, at, random() % 50 * 512 | uint64_t{1} << 62 | random() % 512);
      if (kind == 4) Put64(image, at, random() % 100);
    }
    image.Resize(40 * cluster + random() % 2 * 100);
    const CheckReport report = CheckSimulated(std::move(image));
    if (report.result.stopped_by != 0) EXPECT_EQ(report.exit_code, 1);
    EXPECT_NE(report.exit_code, 0);
  }
}

DiskImage ImageWithData() {
  const ImageFile file("", "64M", {"write 0 256k"});
  return *DiskImage::LoadFile(file.path());
}

CheckReport CheckWithFailingReads(Content content) {
  Loop loop;
  SimDisk disk(loop, {.record = false}, ImageWithData());
  disk.SetFaults([&](const Request& request, uint64_t) {
    return request.content == content ? Fault::Error(EIO) : Fault::None();
  });
  return CheckDisk(loop, disk);
}

TEST(CheckHostileTest, ReadErrorsAreReported) {
  for (const Content content : {Content::kHeader, Content::kRefcountTable}) {
    const CheckReport report = CheckWithFailingReads(content);
    EXPECT_EQ(report.exit_code, 1);
    EXPECT_THAT(report.error, HasSubstr("Could not open"));
  }
  for (const Content content : {Content::kL1, Content::kL2}) {
    const CheckReport report = CheckWithFailingReads(content);
    EXPECT_EQ(report.exit_code, 1);
    EXPECT_EQ(report.error, absl::StrCat("Check failed: ", std::strerror(EIO)));
    EXPECT_EQ(report.result.check_errors, 1u);
    EXPECT_EQ(report.result.leaks, 0u);
  }
  const CheckReport report = CheckWithFailingReads(Content::kRefcountBlock);
  EXPECT_EQ(report.exit_code, 1);
  EXPECT_EQ(report.result.check_errors, 9u);
  EXPECT_EQ(report.result.corruptions, 0u);
  EXPECT_THAT(report.lines, Contains("Can't get refcount for cluster 8: Input/output error"));
}

}  // namespace
}  // namespace ringcow
