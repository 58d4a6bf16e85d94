// What an image has reserved when it is not closed, and what becomes of it.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/errno_status.h"
#include "engine/loop.h"
#include "engine/scope.h"
#include "engine/status_macros.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/check.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/reserve_record.h"
#include "qcow2/header_update.h"
#include "qcow2/read_header.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/first_violation.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

constexpr uint64_t kCluster = 4096;
constexpr uint64_t kPerTable = kCluster / 8;  // clusters that an L2 table maps
constexpr uint64_t kTables = 64;
constexpr uint64_t kRecordAt = kCluster - ReserveRecord::kBytes;

CheckResult CheckOf(const DiskImage& state) {
  Loop loop;
  SimDisk disk(loop, {.record = false}, state);
  const absl::StatusOr<CheckResult> result = loop.Run(CheckImage(disk, {}));
  EXPECT_TRUE(result.ok()) << result.status();
  return result.value_or(CheckResult());
}

bool HasRecord(const DiskImage& state) {
  Bytes sector(ReserveRecord::kBytes);
  state.Read(kRecordAt, sector);
  return DecodeReserveRecord(sector).has_value();
}

uint64_t AutoclearOf(const DiskImage& state) {
  Loop loop;
  SimDisk disk(loop, {.record = false}, state);
  const absl::StatusOr<Header> header = loop.Run(ReadHeader(disk));
  EXPECT_TRUE(header.ok()) << header.status();
  return header.ok() ? header->autoclear_features : 0;
}

// Each cluster holds its own number.
Bytes BytesOf(uint64_t cluster) {
  return Bytes(kCluster, std::byte(static_cast<uint8_t>(cluster + 1)));
}

class ReclaimTest : public testing::Test {
 protected:
  static CreateOptions Format() {
    return {.virtual_size = kTables * kPerTable * kCluster, .cluster_size = kCluster};
  }

  void Begin(const CreateOptions& format = Format(), const OpenOptions& options = {}) {
    ASSERT_EQ(Create(disk_, format), absl::OkStatus());
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk_, options);
    ASSERT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
  }
  void Write(uint64_t cluster) {
    ASSERT_EQ(loop_.Run(image_->Write(GuestOffset(cluster * kCluster), BytesOf(cluster))),
              absl::OkStatus());
    written_.push_back(cluster);
  }
  void Flush() { ASSERT_EQ(loop_.Run(image_->Flush()), absl::OkStatus()); }
  // Clusters from `first` on, flushed three by three.
  void WriteMany(uint64_t first, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      Write(first + i);
      if (i % 3 == 0) Flush();
    }
    Flush();
  }
  // As in a crash: what the disk holds, and nobody to close the image.
  DiskImage Crashed() const { return disk_.content(); }

  // Of an image that holds what was written. Empty when all is well.
  std::string Harm(const DiskImage& state) {
    Loop loop;
    SimDisk disk(loop, {.record = false}, state);
    std::string harm = FindingsWithoutLeaks(disk);
    const absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, ReadOnly());
    if (!image.ok()) return absl::StrCat(harm, image.status().ToString());
    Bytes found(kCluster);
    for (const uint64_t cluster : written_) {
      const absl::Status read = loop.Run((*image)->Read(GuestOffset(cluster * kCluster), found));
      if (!read.ok()) absl::StrAppend(&harm, read.ToString());
      if (found != BytesOf(cluster)) absl::StrAppend(&harm, "cluster ", cluster, " is lost\n");
    }
    return harm;
  }

  Loop loop_;
  SimDisk disk_{loop_, {.record = false}};
  std::unique_ptr<Image> image_;
  std::vector<uint64_t> written_;
};

// What is on the disk once `state` was opened for writing, and nothing else.
DiskImage Opened(const DiskImage& state, const OpenOptions& options = {}) {
  Loop loop;
  SimDisk disk(loop, {.record = false}, state);
  const absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
  EXPECT_TRUE(image.ok()) << image.status();
  return disk.content();
}

TEST_F(ReclaimTest, WhatACrashLeakedIsGivenBack) {
  Begin();
  WriteMany(5, 200);
  const DiskImage crashed = Crashed();
  EXPECT_GT(CheckOf(crashed).leaks, 50U);
  EXPECT_NE(AutoclearOf(crashed) & kAutoclearReserveRecord, 0U);
  const DiskImage opened = Opened(crashed);
  EXPECT_EQ(CheckOf(opened).leaks, 0U);
  EXPECT_EQ(Harm(opened), "");
  EXPECT_FALSE(HasRecord(opened));
  EXPECT_EQ(AutoclearOf(opened), 0U);
}

TEST_F(ReclaimTest, SoItIsInTheMidstOfAllocations) {
  Begin();
  WriteMany(0, 100);
  for (uint64_t cluster = 100; cluster < 120; ++cluster) Write(cluster);
  written_.resize(100);
  // What was not flushed is in the record still.
  EXPECT_EQ(CheckOf(Opened(Crashed())).leaks, 0U);
  EXPECT_EQ(Harm(Opened(Crashed())), "");
}

TEST_F(ReclaimTest, CompressedClustersAreSeen) {
  Begin();
  WriteMany(0, 30);
  for (uint64_t cluster = 30; cluster < 60; ++cluster) {
    ASSERT_EQ(loop_.Run(image_->WriteCompressed(GuestOffset(cluster * kCluster), BytesOf(cluster))),
              absl::OkStatus());
    written_.push_back(cluster);
    if (cluster % 5 == 0) Flush();
  }
  Flush();
  const DiskImage opened = Opened(Crashed());
  EXPECT_EQ(CheckOf(opened).leaks, 0U);
  EXPECT_EQ(Harm(opened), "");
}

TEST_F(ReclaimTest, SubclustersAreSeen) {
  CreateOptions format = Format();
  format.virtual_size = uint64_t{16} << 20;
  format.cluster_size = 65536;
  format.extended_l2 = true;
  Begin(format);
  WriteMany(0, 200);
  const DiskImage opened = Opened(Crashed());
  EXPECT_EQ(CheckOf(opened).leaks, 0U);
  EXPECT_EQ(Harm(opened), "");
}

TEST_F(ReclaimTest, AClosedImageHasNoRecord) {
  Begin();
  WriteMany(0, 50);
  EXPECT_TRUE(HasRecord(disk_.content()));
  ASSERT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
  Bytes sector(ReserveRecord::kBytes);
  disk_.content().Read(kRecordAt, sector);
  EXPECT_EQ(sector, Bytes(ReserveRecord::kBytes));
  EXPECT_EQ(AutoclearOf(disk_.content()), 0U);
}

// Much is mapped, and little of it since the image was opened.
TEST_F(ReclaimTest, ReadsTheTablesOfTheRangeOnly) {
  Begin();
  for (uint64_t table = 0; table < kTables; ++table) Write(table * kPerTable);
  ASSERT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
  image_ = *Open(disk_);
  WriteMany(20 * kPerTable + 1, 100);

  Loop loop;
  SimDisk disk(loop, {.record = false}, Crashed());
  OpenOptions options;
  options.cache_read_bytes = 0;
  ASSERT_TRUE(Open(disk, options).ok());
  EXPECT_EQ(disk.counters()[Content::kL2].read_bytes, kCluster);
  EXPECT_EQ(CheckOf(disk.content()).leaks, 0U);
  EXPECT_EQ(Harm(disk.content()), "");
}

// Each write is in an L2 table that was not recorded before, and waits for a record: but for
// fewer and fewer of them.
TEST_F(ReclaimTest, TheRangeGrowsFast) {
  Begin();
  WriteMany(0, 60);
  disk_.ResetCounters();
  for (uint64_t table = 1; table < kTables; ++table) {
    Write(table * kPerTable);
    Flush();
  }
  EXPECT_LE(disk_.counters().fsyncs, kTables - 1 + 10);
  const DiskImage opened = Opened(Crashed());
  EXPECT_EQ(Harm(opened), "");
  EXPECT_EQ(CheckOf(opened).leaks, 0U);
}

TEST_F(ReclaimTest, IsAnOption) {
  OpenOptions options;
  options.record_reserve = false;
  Begin(Format(), options);
  WriteMany(0, 50);
  EXPECT_FALSE(HasRecord(disk_.content()));
  EXPECT_EQ(AutoclearOf(disk_.content()), 0U);
  EXPECT_GT(CheckOf(disk_.content()).leaks, 10U);
}

TEST_F(ReclaimTest, Version2HasNoBitForIt) {
  CreateOptions format = Format();
  format.version = 2;
  Begin(format);
  WriteMany(0, 50);
  EXPECT_FALSE(HasRecord(disk_.content()));
  EXPECT_GT(CheckOf(disk_.content()).leaks, 10U);
}

// Whatever it is that somebody has put there.
TEST_F(ReclaimTest, BytesOfOthersStay) {
  Begin();
  ASSERT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
  DiskImage content = disk_.content();
  const Bytes others(ReserveRecord::kBytes, std::byte{0x5a});
  content.Write(kRecordAt, others);

  Loop loop;
  SimDisk disk(loop, {.record = false}, content);
  const std::unique_ptr<Image> image = *Open(disk);
  for (uint64_t cluster = 0; cluster < 50; ++cluster) {
    ASSERT_EQ(loop.Run(image->Write(GuestOffset(cluster * kCluster), BytesOf(cluster))),
              absl::OkStatus());
    ASSERT_EQ(loop.Run(image->Flush()), absl::OkStatus());
  }
  Bytes found(ReserveRecord::kBytes);
  disk.content().Read(kRecordAt, found);
  EXPECT_EQ(found, others);
  EXPECT_EQ(AutoclearOf(disk.content()), 0U);
}

// A reference may be hidden in what cannot be understood.
TEST_F(ReclaimTest, OfADamagedImageNothingIsGivenBack) {
  Begin();
  WriteMany(0, 100);
  DiskImage crashed = Crashed();
  Loop loop;
  SimDisk disk(loop, {.record = false}, crashed);
  const absl::StatusOr<Header> header = loop.Run(ReadHeader(disk));
  ASSERT_TRUE(header.ok());
  Bytes entry(8);
  crashed.Read(header->l1_table_offset.value(), entry);
  entry[0] = std::byte{0};
  const uint64_t l2_table = LoadBe<uint64_t>(entry.data());
  crashed.Write(l2_table + 50 * 8, Bytes(8, std::byte{0x3f}));

  const uint64_t leaks = CheckOf(crashed).leaks;
  const DiskImage opened = Opened(crashed);
  EXPECT_EQ(CheckOf(opened).leaks, leaks);
  EXPECT_EQ(AutoclearOf(opened), 0U);
}

TEST_F(ReclaimTest, AHeaderIsChangedInspiteOfIt) {
  Begin();
  WriteMany(0, 50);
  Loop loop;
  SimDisk disk(loop, {.record = false}, Crashed());
  absl::StatusOr<Header> header = loop.Run(ReadHeader(disk));
  ASSERT_TRUE(header.ok());
  header->backing_file = std::string(1000, 'x');
  ASSERT_EQ(loop.Run(UpdateHeader(disk, *header)), absl::OkStatus());
  EXPECT_FALSE(HasRecord(disk.content()));
  EXPECT_EQ(AutoclearOf(disk.content()), 0U);
}

DiskImage WithRecord(DiskImage state, const ReserveRecord& record) {
  Bytes sector(ReserveRecord::kBytes);
  EncodeReserveRecord(record, sector);
  state.Write(kRecordAt, sector);
  return state;
}

// Who wrote the record wants us to give away what is in use.
TEST_F(ReclaimTest, AHostileRecordGivesNoTablesAway) {
  Begin();
  WriteMany(0, 100);
  const uint64_t clusters = Crashed().size() / kCluster;
  const ReserveRecord everything{
      .runs = {{ClusterIndex(0), clusters}}, .l1_begin = 0, .l1_end = ~uint64_t{0}};
  EXPECT_EQ(Harm(Opened(WithRecord(Crashed(), everything))), "");

  // The data is given away; no table is, and what is in the cache of one overwrites no other.
  const ReserveRecord no_range{.runs = everything.runs};
  const DiskImage opened = Opened(WithRecord(Crashed(), no_range));
  Loop loop;
  SimDisk disk(loop, {.record = false}, opened);
  const std::unique_ptr<Image> image = *Open(disk);
  for (uint64_t cluster = 1000; cluster < 1200; ++cluster) {
    ASSERT_EQ(loop.Run(image->Write(GuestOffset(cluster * kCluster), BytesOf(cluster))),
              absl::OkStatus());
  }
  ASSERT_EQ(loop.Run(image->Close()), absl::OkStatus());
  Bytes found(kCluster);
  for (uint64_t cluster = 1000; cluster < 1200; ++cluster) {
    ASSERT_EQ(loop.Run(image->Read(GuestOffset(cluster * kCluster), found)), absl::OkStatus());
    EXPECT_EQ(found, BytesOf(cluster));
  }
}

TEST_F(ReclaimTest, ARecordOfClustersThatAreNowhere) {
  Begin();
  WriteMany(0, 10);
  const ReserveRecord record{
      .runs = {{ClusterIndex(uint64_t{1} << 40), 65536}}, .l1_begin = 5, .l1_end = 6};
  EXPECT_EQ(Harm(Opened(WithRecord(Crashed(), record))), "");
  const ReserveRecord last{
      .runs = {{ClusterIndex(~uint64_t{0} - 10), 10}}, .l1_begin = 0, .l1_end = 1};
  EXPECT_EQ(Harm(Opened(WithRecord(Crashed(), last))), "");
}

// Their references are not looked for.
TEST_F(ReclaimTest, WhatASnapshotHasIsNotGivenBack) {
  Begin();
  WriteMany(0, 50);
  Snapshot snapshot;
  snapshot.name = "s";
  ASSERT_EQ(loop_.Run(image_->CreateSnapshot(snapshot)), absl::OkStatus());
  EXPECT_FALSE(HasRecord(Crashed()));
  WriteMany(0, 50);
  WriteMany(100, 50);
  EXPECT_TRUE(HasRecord(Crashed()));
  const DiskImage opened = Opened(Crashed());
  EXPECT_EQ(Harm(opened), "");
  EXPECT_EQ(CheckOf(opened).leaks, 0U);
}

Task<absl::Status> FlushAgainAndAgain(Loop& loop, Image& image, const bool& has_ended) {
  while (!has_ended) {
    CO_RETURN_IF_ERROR(co_await image.Flush());
    co_await loop.Yield();
  }
  co_return absl::OkStatus();
}

Task<absl::Status> MakeSnapshot(Image& image, bool& has_ended) {
  Snapshot snapshot;
  snapshot.name = "s";
  const absl::Status status = co_await image.CreateSnapshot(snapshot);
  has_ended = true;
  co_return status;
}

// A flush is no request: it comes in the midst of an operation that runs alone.
TEST_F(ReclaimTest, NothingIsRecordedWhileASnapshotIsMade) {
  Begin();
  WriteMany(0, 50);
  for (uint64_t cluster = 50; cluster < 80; ++cluster) Write(cluster);
  bool has_ended = false;
  Scope scope(loop_);
  scope.Spawn(MakeSnapshot(*image_, has_ended));
  scope.Spawn(FlushAgainAndAgain(loop_, *image_, has_ended));
  ASSERT_EQ(loop_.Run(scope.Join()), absl::OkStatus());
  EXPECT_EQ(Harm(Opened(Crashed())), "");
  // What the snapshot has is changed, so that it alone refers to it.
  for (uint64_t cluster = 0; cluster < 80; ++cluster) {
    Write(cluster);
    if (cluster % 16 == 0) Flush();
    EXPECT_EQ(Harm(Opened(Crashed())), "") << cluster;
  }
}

// There the header's sectors are written together, with what it has read of the record's.
TEST(ReclaimOnLargeBlocksTest, SmallClustersHaveNoRecord) {
  for (const uint64_t cluster_bytes : {uint64_t{4096}, uint64_t{8192}}) {
    Loop loop;
    SimDisk disk(loop, {.alignment = 4096, .record = false});
    ASSERT_EQ(Create(disk, {.virtual_size = 1 << 20, .cluster_size = cluster_bytes}),
              absl::OkStatus());
    const std::unique_ptr<Image> image = *Open(disk);
    const Bytes data(4096, std::byte{1});
    ASSERT_EQ(loop.Run(image->Write(GuestOffset(0), data)), absl::OkStatus());
    ASSERT_EQ(loop.Run(image->Flush()), absl::OkStatus());
    EXPECT_EQ(AutoclearOf(disk.content()) != 0, cluster_bytes > 4096);
  }
}

// QEMU does not know the record, takes clusters for its own use, and says so.
TEST_F(ReclaimTest, QemuMakesItVoid) {
  Begin();
  WriteMany(0, 100);
  const TempFile file("reclaim.qcow2");
  ASSERT_EQ(Crashed().SaveFile(file.path()), absl::OkStatus());
  EXPECT_EQ(QemuCheck(file.path()).status, 3) << "leaks, and nothing else";
  QemuIo(file.path(), {"write -P 9 1M 256k"});
  const absl::StatusOr<DiskImage> left = DiskImage::LoadFile(file.path());
  ASSERT_TRUE(left.ok());
  EXPECT_EQ(AutoclearOf(*left), 0U);
  const uint64_t leaks = CheckOf(*left).leaks;
  EXPECT_GT(leaks, 10U);
  const DiskImage opened = Opened(*left);
  EXPECT_EQ(CheckOf(opened).leaks, leaks) << "nothing is given back";
  EXPECT_EQ(Harm(opened), "");
}

TEST_F(ReclaimTest, QemuFindsItCleanAfterwards) {
  Begin();
  WriteMany(0, 100);
  const TempFile file("reclaim.qcow2");
  ASSERT_EQ(Opened(Crashed()).SaveFile(file.path()), absl::OkStatus());
  const ToolResult checked = QemuCheck(file.path());
  EXPECT_EQ(checked.status, 0) << checked.output;
}

TEST_F(ReclaimTest, EachIoOfItFailsOnce) {
  Begin();
  WriteMany(0, 60);
  const DiskImage crashed = Crashed();
  for (const FailureKind kind : kAllFailureKinds) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE(testing::Message() << NameOf(kind) << ", request " << n);
      Loop loop;
      SimDisk disk(loop, {.seed = n, .record = false}, crashed);
      disk.SetFaults(FailNth(kind, n));
      (void)Open(disk);
      if (disk.requests() <= n) break;
      ASSERT_EQ(Harm(disk.content()), "");
      ASSERT_EQ(Harm(Opened(disk.content())), "");
    }
  }
}

TEST_F(ReclaimTest, ThePowerFailsInTheMidstOfIt) {
  Begin();
  WriteMany(0, 60);
  const DiskImage crashed = Crashed();
  Loop loop;
  SimDisk disk(loop, {.seed = 3}, crashed);
  ASSERT_TRUE(Open(disk).ok());
  size_t states = 0;
  EXPECT_EQ(FirstViolation(disk.trace(), crashed, StateBudget(), states,
                           [&](const DiskImage& state) {
                             return absl::StrCat(Harm(state), Harm(Opened(state)));
                           }),
            "");
  EXPECT_GT(states, 3U);
}

}  // namespace
}  // namespace ringcow
