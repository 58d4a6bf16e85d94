#include "cache/table_cache.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "cache/test_rig.h"
#include "engine/errno_status.h"
#include "engine/scope.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr size_t kTable = TestRig::kTable;

// A disk whose n-th table holds bytes of value n.
DiskImage NumberedTables(size_t count) {
  DiskImage image;
  for (size_t n = 0; n < count; ++n) {
    image.Write(n * kTable, std::vector<std::byte>(kTable, static_cast<std::byte>(n)));
  }
  return image;
}

Task<absl::Status> GetInto(TableCache& cache, HostOffset offset, TablePin& pin) {
  absl::StatusOr<TablePin> got = co_await cache.Get(offset);
  if (!got.ok()) co_return got.status();
  pin = *std::move(got);
  co_return absl::OkStatus();
}

TablePin GetEmpty(TestRig& rig, size_t n,
                  TableCache::OnDisk on_disk = TableCache::OnDisk::kUnknown) {
  return *rig.loop.Run(rig.cache.GetEmpty(TestRig::Place(n), on_disk));
}

TEST(TableCacheTest, GetReadsATableOnceAndKeepsIt) {
  TestRig rig({}, 4, {}, NumberedTables(8));
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(5)));
  const Table* table = nullptr;
  {
    const TablePin pin = rig.Get(5);
    EXPECT_EQ(TestRig::ValueIn(pin, 0), 5);
    EXPECT_EQ(TestRig::ValueIn(pin, 7), 5);
    EXPECT_EQ(pin.offset(), TestRig::Place(5));
    table = &pin.table();
  }
  EXPECT_EQ(&rig.Get(5).table(), table);
  EXPECT_EQ(&rig.cache.TryGet(TestRig::Place(5)).table(), table);
  EXPECT_EQ(rig.reads(), 1U);
  EXPECT_EQ(TestRig::ValueIn(rig.Get(100), 0), 0) << "beyond the end of the disk";
}

TEST(TableCacheTest, DestroyingACacheForgetsWhatWasNotFlushed) {
  Loop loop;
  SimDisk disk(loop, {});
  {
    WriteBack write_back(disk, {});
    TableCache cache(write_back, {});
    const TablePin pin = *loop.Run(cache.GetEmpty(HostOffset(0)));
    EXPECT_TRUE(pin.table().is_dirty());
  }
  EXPECT_EQ(disk.requests(), 0U);
}

TEST(TableCacheTest, MissesOnOneTableShareARead) {
  TestRig rig({}, 4, {}, NumberedTables(8));
  std::vector<TablePin> pins(10);
  Scope scope(rig.loop);
  for (TablePin& pin : pins) scope.Spawn(GetInto(rig.cache, TestRig::Place(3), pin));
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(3))) << "still being read";
  ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
  EXPECT_EQ(rig.reads(), 1U);
  for (const TablePin& pin : pins) {
    EXPECT_EQ(&pin.table(), &pins[0].table());
    EXPECT_EQ(TestRig::ValueIn(pin, 7), 3);
  }
}

// Eight tables make a whole, and four of them are read at once.
TableCacheOptions WithNeighbours(size_t tables) {
  return {.content = Content::kL2,
          .table_bytes = TestRig::kTable,
          .whole_bytes = 8 * TestRig::kTable,
          .tables = tables,
          .read_bytes = 4 * TestRig::kTable};
}

TEST(TableCacheTest, NeighboursAreReadTogether) {
  TestRig rig(WithNeighbours(64), {}, {}, NumberedTables(16));
  EXPECT_EQ(TestRig::ValueIn(rig.Get(6), 0), 6);
  EXPECT_EQ(rig.reads(), 1U);
  for (const size_t n : {4, 5, 7}) EXPECT_EQ(TestRig::ValueIn(rig.Get(n), 0), static_cast<int>(n));
  EXPECT_EQ(rig.reads(), 1U);
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(3)));
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(8)));
}

// What is there already, and changed, is not read again.
TEST(TableCacheTest, NeighboursEndAtATableThatIsThere) {
  TestRig rig(WithNeighbours(64), {}, {}, NumberedTables(16));
  {
    const TablePin changed = *rig.loop.Run(rig.cache.GetEmpty(TestRig::Place(1)));
    rig.Change(changed, 0, 77);
  }
  EXPECT_EQ(TestRig::ValueIn(rig.Get(2), 0), 2);
  EXPECT_EQ(TestRig::ValueIn(rig.Get(1), 0), 77);
  EXPECT_TRUE(rig.cache.TryGet(TestRig::Place(3)));
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(0)));
}

TEST(TableCacheTest, NobodyLeavesForANeighbour) {
  TestRig rig(WithNeighbours(3), {}, {}, NumberedTables(16));
  EXPECT_EQ(TestRig::ValueIn(rig.Get(8), 0), 8);
  EXPECT_TRUE(rig.cache.TryGet(TestRig::Place(10)));
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(11)));
  // The cache is full now, and the least recently used leaves for one table only.
  EXPECT_EQ(TestRig::ValueIn(rig.Get(0), 0), 0);
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(1)));
}

TEST(TableCacheTest, ANeighbourThatCannotBeReadIsNobodysFailure) {
  TestRig rig(WithNeighbours(64), {}, {}, NumberedTables(16));
  rig.disk.SetFaults([](const Request& request, uint64_t) {
    const bool is_bad = request.end() > TestRig::Place(7);
    return is_bad ? Fault::Error(EIO) : Fault::None();
  });
  EXPECT_EQ(TestRig::ValueIn(rig.Get(5), 0), 5);
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(4)));
  EXPECT_FALSE(rig.loop.Run(rig.cache.Get(TestRig::Place(7))).ok());
  rig.disk.SetFaults(nullptr);
  EXPECT_EQ(TestRig::ValueIn(rig.Get(7), 0), 7);
}

TEST(TableCacheTest, AFailedReadIsToldAndLeavesNothingBehind) {
  TestRig rig({}, 2, {}, NumberedTables(8));
  rig.FailNth(0, Fault::Error(EIO));
  std::vector<TablePin> pins(3);
  Scope scope(rig.loop);
  for (TablePin& pin : pins) scope.Spawn(GetInto(rig.cache, TestRig::Place(3), pin));
  const absl::Status status = rig.loop.Run(scope.Join());
  EXPECT_EQ(ErrnoOf(status), EIO);
  EXPECT_NE(status.message().find("0x3000"), absl::string_view::npos) << status;
  EXPECT_FALSE(pins[0]);
  for (size_t i : {1, 2}) {
    ASSERT_TRUE(pins[i]) << "those who waited try for themselves";
    EXPECT_EQ(TestRig::ValueIn(pins[i], 0), 3);
  }
  EXPECT_EQ(rig.reads(), 2U);

  // More failures than the cache has tables.
  rig.disk.SetFaults([](const Request&, uint64_t) { return Fault::Error(EIO); });
  for (size_t n = 4; n < 8; ++n) {
    EXPECT_FALSE(rig.loop.Run(rig.cache.Get(TestRig::Place(n))).ok());
    EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(n)));
  }
  rig.disk.SetFaults(nullptr);
  for (size_t n = 4; n < 8; ++n) {
    EXPECT_EQ(TestRig::ValueIn(rig.Get(n), 0), static_cast<int>(n));
  }
}

TEST(TableCacheTest, GetEmptyIsZeroesThatReplaceWhatTheDiskHolds) {
  TestRig rig({}, 4, {}, NumberedTables(8));
  {
    const TablePin pin = GetEmpty(rig, 5);
    EXPECT_EQ(TestRig::ValueIn(pin, 0), 0);
    EXPECT_EQ(TestRig::ValueIn(pin, 7), 0);
  }
  EXPECT_EQ(rig.reads(), 0U);
  const TablePin cached = rig.Get(6);
  rig.Change(cached, 2, 66);
  EXPECT_EQ(&GetEmpty(rig, 6).table(), &cached.table());
  EXPECT_EQ(TestRig::ValueIn(cached, 2), 0);
  ASSERT_TRUE(rig.Flush().ok());
  for (size_t n : {5, 6}) {
    for (size_t sector = 0; sector < 8; ++sector) EXPECT_EQ(rig.ValueOnDisk(n, sector), 0);
  }
}

TEST(TableCacheTest, GetEmptyOfZeroesOnDiskWritesOnlyWhatChanges) {
  TestRig rig;
  const TablePin pin = GetEmpty(rig, 5, TableCache::OnDisk::kZeroes);
  EXPECT_TRUE(pin.table().is_settled());
  rig.Change(pin, 3, 1);
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.disk.counters().MetadataBytesWritten(), TestRig::kSector);
}

TEST(TableCacheTest, GetEmptyOfATableThatIsBeingReadIsZeroesInTheEnd) {
  TestRig rig({}, 4, {}, NumberedTables(8));
  TablePin read;
  Scope scope(rig.loop);
  scope.Spawn(GetInto(rig.cache, TestRig::Place(3), read));
  const TablePin empty = GetEmpty(rig, 3);
  ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
  EXPECT_EQ(&empty.table(), &read.table());
  EXPECT_EQ(TestRig::ValueIn(empty, 0), 0);
  EXPECT_TRUE(empty.table().is_dirty());
}

TEST(TableCacheTest, TheLeastRecentlyUsedLeavesFirstAndPinnedTablesStay) {
  TestRig rig({}, 4, {}, NumberedTables(16));
  const TablePin pinned = rig.Get(0);
  for (size_t n : {1, 2, 3, 1}) (void)rig.Get(n);
  (void)rig.Get(4);
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(2)));
  (void)rig.Get(5);
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(3)));
  EXPECT_TRUE(rig.cache.TryGet(TestRig::Place(1)));
  EXPECT_EQ(TestRig::ValueIn(pinned, 0), 0);
  EXPECT_EQ(&rig.cache.TryGet(TestRig::Place(0)).table(), &pinned.table());

  // With all of them pinned it takes one more, and no more than that.
  std::vector<TablePin> pins;
  for (size_t n = 8; n < 14; ++n) pins.push_back(rig.Get(n));
  for (size_t i = 0; i < pins.size(); ++i) {
    EXPECT_EQ(TestRig::ValueIn(pins[i], 0), static_cast<int>(8 + i));
  }
  pins.clear();
  for (size_t n = 0; n < 16; ++n) (void)rig.Get(n);
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(8)));
}

TEST(TableCacheTest, UnchangedTablesLeaveBeforeChangedOnes) {
  TestRig rig({}, 4, {}, NumberedTables(16));
  for (size_t n : {0, 1}) rig.Change(rig.Get(n), 0, 99);
  for (size_t n = 2; n < 12; ++n) (void)rig.Get(n);
  EXPECT_EQ(rig.writes(), 0U);
  for (size_t n : {0, 1}) EXPECT_EQ(TestRig::ValueIn(rig.cache.TryGet(TestRig::Place(n)), 0), 99);
}

bool IsResident(const Table& table) {
  unsigned char resident = 0;
  EXPECT_EQ(mincore(table.data, table.bytes, &resident), 0);
  return (resident & 1) != 0;
}

TEST(TableCacheTest, CleanUnusedGivesBackWhatWasNotUsedSinceTheLastTime) {
  TestRig rig({}, 64, {}, NumberedTables(8));
  const TablePin pinned = rig.Get(0);
  const Table& unused = rig.Get(1).table();
  for (size_t n : {2, 3, 4}) (void)rig.Get(n);
  EXPECT_EQ(rig.cache.CleanUnused(), 0U) << "all of them are used since it was made";
  EXPECT_TRUE(IsResident(unused));
  rig.Change(rig.Get(2), 0, 99);
  (void)rig.Get(3);
  EXPECT_EQ(rig.cache.CleanUnused(), 2U) << "1 and 4";
  EXPECT_FALSE(IsResident(unused));
  for (size_t n : {1, 4}) EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(n)));
  EXPECT_EQ(rig.cache.CleanUnused(), 1U) << "3; 2 is not durable";
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.cache.CleanUnused(), 1U) << "2";
  EXPECT_EQ(TestRig::ValueIn(pinned, 7), 0);
  for (size_t n = 1; n < 8; ++n) {
    EXPECT_EQ(TestRig::ValueIn(rig.Get(n), 7), static_cast<int>(n)) << "memory is used again";
  }
  EXPECT_EQ(rig.ValueOnDisk(2), 99);
}

TEST(TableCacheTest, EmptyFlushesAndForgets) {
  TestRig rig({}, 8, {}, NumberedTables(8));
  for (size_t n : {1, 2}) rig.Change(rig.Get(n), 0, 99);
  (void)rig.Get(3);
  rig.FailNth(0, Fault::Error(ENOSPC));
  EXPECT_EQ(ErrnoOf(rig.loop.Run(rig.cache.Empty())), ENOSPC);
  EXPECT_TRUE(rig.cache.TryGet(TestRig::Place(1)));
  ASSERT_TRUE(rig.loop.Run(rig.cache.Empty()).ok());
  for (size_t n : {1, 2, 3}) EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(n)));
  EXPECT_EQ(rig.ValueOnDisk(1), 99);

  const TablePin used = rig.Get(4);
  (void)rig.Get(5);
  const absl::Status status = rig.loop.Run(rig.cache.Empty());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "'sim': L2 table at host offset 0x4000 is in use");
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(5)));
}

TEST(TableCacheTest, ABarrierServesASixteenthOfALargeCache) {
  constexpr size_t kTables = 2048;
  TestRig rig({}, kTables, {.record = false});
  for (size_t n = 0; n < kTables; ++n) rig.Change(rig.Get(2 * n), 0, 1);
  for (size_t n = 0; n < kTables; ++n) (void)rig.Get(2 * (kTables + n));
  EXPECT_EQ(rig.fsyncs(), 16U);
}

class EvictionTest : public testing::TestWithParam<PlanForm> {};

INSTANTIATE_TEST_SUITE_P(Forms, EvictionTest,
                         testing::Values(PlanForm::kChain, PlanForm::kStages, PlanForm::kAuto));

TEST_P(EvictionTest, AChangedTableLeavesOnlyBehindWhatMustGoBefore) {
  TestRig rig({.form = GetParam()}, 3, {}, NumberedTables(16));
  {
    const TablePin before = rig.Get(9);
    const TablePin after = rig.Get(1);
    const TablePin last = rig.Get(5);
    rig.Change(before, 0, 99);
    ASSERT_TRUE(rig.Order(after, before).ok());
    rig.Change(after, 0, 91);
    ASSERT_TRUE(rig.Order(last, after).ok());
    rig.Change(last, 0, 95);
  }
  // `after` is the oldest now, then `last`.
  const TablePin pinned = rig.Get(9);
  EXPECT_EQ(TestRig::ValueIn(rig.Get(12), 0), 12);
  EXPECT_TRUE(IsOrdered(rig.disk.trace(), 9, 1)) << rig.disk.trace().ToString();
  EXPECT_TRUE(IsOrdered(rig.disk.trace(), 1, 5));
  EXPECT_TRUE(IsDurable(rig.disk.trace(), 1)) << "it has left";
  EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(1)));
  EXPECT_EQ(TestRig::ValueIn(rig.Get(1), 0), 91);
  EXPECT_EQ(TestRig::ValueIn(rig.Get(1), 1), 1);
}

TEST_P(EvictionTest, OneWriteBackServesManyMisses) {
  constexpr size_t kTables = 16;
  TestRig rig({.form = GetParam()}, kTables);
  for (size_t n = 0; n < kTables; ++n) rig.Change(rig.Get(n), 0, 1);
  std::vector<TablePin> pins(kTables);
  Scope scope(rig.loop);
  for (size_t n = 0; n < kTables; ++n) {
    scope.Spawn(GetInto(rig.cache, TestRig::Place(100 + n), pins[n]));
  }
  ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
  EXPECT_EQ(rig.writes(), 1U) << "neighbours in one write";
  EXPECT_EQ(rig.fsyncs(), 1U);
}

TEST_P(EvictionTest, AWriteThatFailsKeepsItsTable) {
  TestRig rig({.form = GetParam()}, 2);
  for (size_t n : {1, 3}) rig.Change(rig.Get(n), 0, 7);
  for (const int error : {EIO, ENOSPC}) {
    rig.disk.SetFaults([=](const Request& request, uint64_t) {
      return request.op == Op::kWrite ? Fault::Error(error) : Fault();
    });
    EXPECT_EQ(ErrnoOf(rig.loop.Run(rig.cache.Get(TestRig::Place(5))).status()), error);
    for (size_t n : {1, 3}) {
      const TablePin kept = rig.cache.TryGet(TestRig::Place(n));
      ASSERT_TRUE(kept);
      EXPECT_EQ(TestRig::ValueIn(kept, 0), 7);
      EXPECT_TRUE(kept.table().is_dirty());
    }
  }
  rig.disk.SetFaults(nullptr);
  (void)rig.Get(5);
  EXPECT_EQ(rig.ValueOnDisk(1), 7);
}

TEST_P(EvictionTest, ReadsGoOnWhenNothingCanBeWritten) {
  constexpr size_t kChanged = 100;
  for (const Op failing : {Op::kWrite, Op::kFdatasync}) {
    TestRig rig({.form = GetParam()}, kChanged + 2, {}, NumberedTables(8));
    for (size_t n = 0; n < kChanged; ++n) rig.Change(rig.Get(10 + n), 0, 1);
    for (size_t n : {0, 1}) (void)rig.Get(n);
    rig.disk.SetFaults([=](const Request& request, uint64_t) {
      return request.op == failing ? Fault::Error(EIO) : Fault();
    });
    EXPECT_FALSE(rig.Flush().ok());
    for (size_t n = 0; n < 8; ++n) {
      const absl::StatusOr<TablePin> pin = rig.loop.Run(rig.cache.Get(TestRig::Place(n)));
      ASSERT_TRUE(pin.ok()) << pin.status();
      EXPECT_EQ(TestRig::ValueIn(*pin, 0), static_cast<int>(n));
    }
    for (size_t n = 0; n < kChanged; ++n) {
      EXPECT_EQ(TestRig::ValueIn(rig.cache.TryGet(TestRig::Place(10 + n)), 0), 1);
    }
  }
}

TEST_P(EvictionTest, ADroppedTableIsForgottenAlsoWhileItIsBeingWritten) {
  for (uint64_t seed = 1; seed < 20; ++seed) {
    TestRig rig({.form = GetParam()}, 8, {.seed = seed}, NumberedTables(8));
    for (size_t n : {1, 2, 3, 4}) rig.Change(rig.Get(n), 0, 99);
    rig.loop.Run(rig.cache.Drop(TestRig::Place(4), 4 * kTable));
    EXPECT_FALSE(rig.cache.TryGet(TestRig::Place(4)));

    Scope scope(rig.loop);
    scope.Spawn(rig.write_back.Flush());
    const auto drop_and_reuse = [](TestRig& rig, uint64_t turns) -> Task<absl::Status> {
      for (uint64_t i = 0; i < turns; ++i) co_await rig.loop.Yield();
      co_await rig.cache.Drop(TestRig::Place(2), 2 * kTable);
      const AlignedBuffer data(2 * kTable);
      std::memset(data.data(), 55, data.size());
      co_return co_await rig.disk.Write(TestRig::Place(2), data.span());
    };
    scope.Spawn(drop_and_reuse(rig, seed % 8));
    ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
    ASSERT_TRUE(rig.Flush().ok());
    EXPECT_EQ(rig.ValueOnDisk(1), 99);
    for (size_t n : {2, 3}) EXPECT_EQ(rig.ValueOnDisk(n), 55) << "seed " << seed;
    EXPECT_EQ(rig.ValueOnDisk(4), 4);
  }
}

TEST_P(EvictionTest, ADroppedTableThatSomebodyUsesStaysButIsNotWritten) {
  TestRig rig({.form = GetParam()}, 8, {}, NumberedTables(8));
  {
    const TablePin used = rig.Get(1);
    rig.Change(used, 0, 99);
    rig.loop.Run(rig.cache.Drop(TestRig::Place(1), kTable));
    EXPECT_EQ(TestRig::ValueIn(used, 0), 99);
  }
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.ValueOnDisk(1), 1);
  rig.loop.Run(rig.cache.Drop(TestRig::Place(1), kTable));
  EXPECT_EQ(TestRig::ValueIn(rig.Get(1), 0), 1);
}

}  // namespace
}  // namespace ringcow
