#include "cache/write_plan.h"

#include <algorithm>
#include <deque>
#include <vector>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr uint32_t kTable = 4096;
constexpr uint32_t kSector = 512;
constexpr uint64_t kWhole = uint64_t{8} * kTable;  // what tables are slices of

class WritePlanTest : public testing::Test {
 protected:
  // A table at the n-th place whose sector i holds bytes of value 10 * n + i.
  Table& NewTable(size_t n, const std::vector<size_t>& dirty_sectors,
                  Content content = Content::kL2) {
    Table& table = tables_.emplace_back();
    table.offset = HostOffset(n * kTable);
    table.bytes = kTable;
    table.dirty_unit = kSector;
    table.content = content;
    table.data = memory_.emplace_back(kTable).data();
    for (size_t i = 0; i < kTable / kSector; ++i) {
      std::fill_n(table.data + i * kSector, kSector, static_cast<std::byte>(10 * n + i));
    }
    for (size_t sector : dirty_sectors) table.dirty |= table.UnitsOf(sector * kSector, kSector);
    table.changed = ++version_;
    table.whole_bytes = kWhole;
    table.siblings = &by_offset_;
    by_offset_.emplace(table.offset, &table);
    return table;
  }
  static std::vector<int> SectorsOf(const PlannedWrite& write) {
    std::vector<int> sectors;
    for (size_t at = 0; at < write.bytes.size(); at += kSector) {
      const std::span<const std::byte> sector = write.bytes.subspan(at, kSector);
      EXPECT_EQ(std::count(sector.begin(), sector.end(), sector[0]), kSector);
      sectors.push_back(static_cast<int>(sector[0]));
    }
    return sectors;
  }

  std::deque<Table> tables_;
  std::deque<AlignedBuffer> memory_;
  TablesByOffset by_offset_;
  Version version_ = 0;
};

// The plan of stages given as lists of tables.
WritePlan PlanOf(const std::vector<std::vector<Table*>>& stages) {
  return WritePlan(stages, /*now=*/100, /*merge_gap=*/2 * kTable);
}

TEST_F(WritePlanTest, UnitsOfARange) {
  Table& table = NewTable(0, {});
  EXPECT_EQ(table.UnitsOf(0, 1), 0b1U);
  EXPECT_EQ(table.UnitsOf(511, 2), 0b11U);
  EXPECT_EQ(table.UnitsOf(3584, 512), 0b10000000U);
  table.dirty_unit = kTable / 64;
  EXPECT_EQ(table.UnitsOf(0, kTable), ~uint64_t{0});
  EXPECT_EQ(table.UnitsOf(kTable - 1, 1), uint64_t{1} << 63);
}

TEST_F(WritePlanTest, WritesTheSpanOfChangedSectorsOnly) {
  const WritePlan plan = PlanOf({{&NewTable(1, {2, 5})}});
  ASSERT_EQ(plan.writes(), 1U);
  const PlannedWrite& write = plan.stages()[0][0];
  EXPECT_EQ(write.offset, HostOffset(kTable + 2 * kSector));
  EXPECT_EQ(write.content, Content::kL2);
  EXPECT_EQ(SectorsOf(write), (std::vector<int>{12, 13, 14, 15}));
  ASSERT_EQ(write.parts.size(), 1U);
  EXPECT_EQ(write.parts[0].dirty, 0b100100U);
  EXPECT_EQ(plan.through(), 100U);
}

TEST_F(WritePlanTest, NeighboursJoinWithWhatLiesBetween) {
  const WritePlan plan = PlanOf({{&NewTable(1, {6}), &NewTable(2, {0, 1}), &NewTable(3, {2})}});
  ASSERT_EQ(plan.writes(), 1U);
  const PlannedWrite& write = plan.stages()[0][0];
  EXPECT_EQ(write.offset, HostOffset(kTable + 6 * kSector));
  EXPECT_EQ(SectorsOf(write),
            (std::vector<int>{16, 17, 20, 21, 22, 23, 24, 25, 26, 27, 30, 31, 32}));
  ASSERT_EQ(write.parts.size(), 3U);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(write.parts[i].table, &tables_[i]);
}

TEST_F(WritePlanTest, OnlyNeighboursOfTheSameContentAndStageJoin) {
  Table& first = NewTable(1, {0});
  Table& other_content = NewTable(2, {0}, Content::kRefcountBlock);
  Table& behind_a_gap = NewTable(4, {0}, Content::kRefcountBlock);
  Table& later = NewTable(5, {0}, Content::kRefcountBlock);
  const WritePlan plan = PlanOf({{&first, &other_content, &behind_a_gap}, {&later}});
  ASSERT_EQ(plan.stages().size(), 2U);
  EXPECT_EQ(plan.stages()[0].size(), 3U);
  EXPECT_EQ(plan.stages()[1].size(), 1U);
  EXPECT_EQ(plan.writes(), 4U);
}

TEST_F(WritePlanTest, CleanTablesAndEmptyStagesStayStages) {
  const WritePlan plan = PlanOf({{&NewTable(1, {})}, {&NewTable(2, {3})}});
  ASSERT_EQ(plan.stages().size(), 2U);
  EXPECT_TRUE(plan.stages()[0].empty());
  EXPECT_EQ(plan.stages()[1].size(), 1U);
  EXPECT_FALSE(plan.empty());
  EXPECT_TRUE(PlanOf({{}}).empty());
  EXPECT_EQ(PlanOf({}).stages().size(), 0U);
}

TEST_F(WritePlanTest, SlicesOfOneTableJoinWithTheCachedOnesBetweenThem) {
  NewTable(2, {});
  NewTable(3, {});
  const WritePlan plan = PlanOf({{&NewTable(1, {7}), &NewTable(4, {0}), &NewTable(6, {0})}});
  ASSERT_EQ(plan.writes(), 2U) << "the slice at 5 is not cached";
  const PlannedWrite& write = plan.stages()[0][0];
  EXPECT_EQ(SectorsOf(write), (std::vector<int>{17, 20, 21, 22, 23, 24, 25, 26, 27, 30, 31, 32, 33,
                                                34, 35, 36, 37, 40}));
  ASSERT_EQ(write.parts.size(), 2U) << "what lies between is not one of the tables written";
}

TEST_F(WritePlanTest, OnlyWhatMirrorsTheDiskIsWrittenBetween) {
  Table& first = NewTable(1, {7});
  Table& between = NewTable(2, {});
  Table& last = NewTable(3, {0});
  EXPECT_EQ(PlanOf({{&first, &last}}).writes(), 1U);
  between.dirty = 1;
  EXPECT_EQ(PlanOf({{&first, &last}, {&between}}).writes(), 3U) << "its own stage comes later";
  between.dirty = 0;
  between.loading = true;
  EXPECT_EQ(PlanOf({{&first, &last}}).writes(), 2U);
  between.loading = false;
  between.abandoned = true;
  EXPECT_EQ(PlanOf({{&first, &last}}).writes(), 2U) << "its cluster may hold data by now";
}

TEST_F(WritePlanTest, SlicesOfDifferentTablesJoinOnlyAsNeighbours) {
  NewTable(7, {});
  NewTable(8, {});
  EXPECT_EQ(PlanOf({{&NewTable(6, {7}), &NewTable(9, {0})}}).writes(), 2U);
  EXPECT_EQ(PlanOf({{&NewTable(15, {7}), &NewTable(16, {0})}}).writes(), 1U);
}

TEST_F(WritePlanTest, ChangesFartherApartThanTheGapAreWrittenForThemselves) {
  Table& first = NewTable(1, {7});
  for (size_t n : {2, 3}) NewTable(n, {});
  Table& last = NewTable(4, {1});
  const uint64_t distance = 2 * kTable + kSector;
  for (const uint64_t gap : {uint64_t{0}, distance - 1, distance}) {
    EXPECT_EQ(WritePlan({{&first, &last}}, 100, gap).writes(), gap < distance ? 2U : 1U) << gap;
  }
}

TEST_F(WritePlanTest, HoldsTheBytesOfTheMomentItWasMade) {
  Table& table = NewTable(1, {0});
  const WritePlan plan = PlanOf({{&table}});
  std::fill_n(table.data, kTable, std::byte{99});
  table.dirty = 0;
  EXPECT_EQ(SectorsOf(plan.stages()[0][0]), (std::vector<int>{10}));
}

// O_DIRECT may want more alignment of memory than of offsets, and a chain cannot bounce.
TEST_F(WritePlanTest, EveryCopyIsAlignedForAnyDisk) {
  const WritePlan plan = PlanOf({{&NewTable(1, {0}), &NewTable(3, {1, 2})}, {&NewTable(5, {7})}});
  EXPECT_EQ(plan.writes(), 3U);
  for (const std::vector<PlannedWrite>& stage : plan.stages()) {
    for (const PlannedWrite& write : stage) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(write.bytes.data()) % kBufferAlignment, 0U);
    }
  }
}

}  // namespace
}  // namespace ringcow
