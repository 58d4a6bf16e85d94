#include "qcow2/format/reserve_record.h"

#include <array>
#include <cstddef>
#include <optional>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

using Sector = std::array<std::byte, ReserveRecord::kBytes>;

ClusterRun Clusters(uint64_t first, uint64_t count) { return {ClusterIndex(first), count}; }

ReserveRecord FullRecord() {
  ReserveRecord record{.runs = {}, .l1_begin = 3, .l1_end = uint64_t{1} << 40};
  for (uint64_t i = 0; i < ReserveRecord::kMostRuns; ++i) {
    EXPECT_TRUE(record.Add(Clusters(10 + 3 * i, 2)));
  }
  return record;
}

Sector Encoded(const ReserveRecord& record) {
  Sector sector;
  sector.fill(std::byte{0xee});
  EncodeReserveRecord(record, sector);
  return sector;
}

TEST(ReserveRecordTest, IsReadAsItWasWritten) {
  for (const ReserveRecord& record : {ReserveRecord(), FullRecord()}) {
    const std::optional<ReserveRecord> read = DecodeReserveRecord(Encoded(record));
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read->runs, record.runs);
    EXPECT_EQ(read->l1_begin, record.l1_begin);
    EXPECT_EQ(read->l1_end, record.l1_end);
  }
}

TEST(ReserveRecordTest, NoOtherBytesAreOne) {
  EXPECT_FALSE(DecodeReserveRecord(Sector()).has_value());
  const Sector good = Encoded(FullRecord());
  for (size_t i = 0; i < good.size(); ++i) {
    Sector bad = good;
    bad[i] ^= std::byte{0x10};
    EXPECT_FALSE(DecodeReserveRecord(bad).has_value()) << i;
  }
  EXPECT_FALSE(DecodeReserveRecord(std::span(good).first(511)).has_value());
}

TEST(ReserveRecordTest, RunsAreSortedAndJoined) {
  ReserveRecord record;
  EXPECT_TRUE(record.Add(Clusters(100, 5)));
  EXPECT_TRUE(record.Add(Clusters(10, 5)));
  EXPECT_TRUE(record.Add(Clusters(15, 1)));
  EXPECT_TRUE(record.Add(Clusters(105, 3)));
  EXPECT_EQ(record.runs, (std::vector<ClusterRun>{Clusters(10, 6), Clusters(100, 8)}));
}

TEST(ReserveRecordTest, HoldsNoMoreThanItsReaderTakes) {
  ReserveRecord record = FullRecord();
  const ReserveRecord full = record;
  EXPECT_FALSE(record.Add(Clusters(1000, 1)));
  EXPECT_EQ(record.runs, full.runs);
  EXPECT_TRUE(record.Add(Clusters(12, 1))) << "beside another one";

  ReserveRecord large;
  EXPECT_TRUE(large.Add(Clusters(1, ReserveRecord::kMostClusters)));
  EXPECT_FALSE(large.Add(Clusters(1 + ReserveRecord::kMostClusters, 1)));
  EXPECT_TRUE(DecodeReserveRecord(Encoded(large)).has_value());
}

}  // namespace
}  // namespace ringcow
