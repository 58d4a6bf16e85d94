#include "tests/kill/expectation.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

using Event = Journal::Event;
using Entry = Journal::Entry;

Entry Begun(uint64_t stamp, uint64_t sector) {
  return {.event = Event::kWrite, .count = 1, .sector = sector, .subject = stamp};
}
Entry Written(uint64_t stamp, uint64_t sector) {
  return {.event = Event::kWritten, .count = 1, .sector = sector, .subject = stamp};
}
Entry Flush(uint64_t before) { return {.event = Event::kFlush, .subject = before}; }
Entry Flushed(uint64_t before) { return {.event = Event::kFlushed, .subject = before}; }

// A disk of two sectors, the first of which holds `stamp`; 0: zeroes.
std::vector<std::byte> DiskWith(uint64_t stamp, uint64_t belongs_to = 0) {
  std::vector<std::byte> disk(2 * kStampedSector);
  if (stamp > 0) FillStamped(stamp, belongs_to, std::span(disk).first(kStampedSector));
  return disk;
}

bool IsRight(const std::vector<Entry>& journal, const std::vector<std::byte>& disk,
             bool writethrough = false) {
  return Expectation(2).Judge(journal, writethrough, disk).empty();
}

TEST(ExpectationTest, WhatWasOnlyAcknowledgedMayBeLost) {
  const std::vector<Entry> journal = {Begun(1, 0), Written(1, 0), Flush(2)};
  EXPECT_TRUE(IsRight(journal, DiskWith(1)));
  EXPECT_TRUE(IsRight(journal, DiskWith(0)));
  EXPECT_FALSE(IsRight(journal, DiskWith(0), /*writethrough=*/true));
}

TEST(ExpectationTest, WhatWasFlushedMayNot) {
  const std::vector<Entry> journal = {Begun(1, 0), Written(1, 0), Begun(2, 0), Written(2, 0),
                                      Flush(4),    Flushed(4),    Begun(3, 0)};
  EXPECT_FALSE(IsRight(journal, DiskWith(0)));
  EXPECT_FALSE(IsRight(journal, DiskWith(1)));
  EXPECT_TRUE(IsRight(journal, DiskWith(2)));
  EXPECT_TRUE(IsRight(journal, DiskWith(3)));
}

TEST(ExpectationTest, AFlushPromisesNothingThatWasAcknowledgedAfterItsBeginning) {
  const std::vector<Entry> journal = {Begun(1, 0), Flush(1), Written(1, 0), Flushed(1)};
  EXPECT_TRUE(IsRight(journal, DiskWith(0)));
}

TEST(ExpectationTest, ForeignAndTornSectorsAreWrong) {
  EXPECT_FALSE(IsRight({Begun(1, 0), Begun(2, 1)}, DiskWith(2)));
  EXPECT_FALSE(IsRight({Begun(1, 0), Begun(1, 1)}, DiskWith(1, /*belongs_to=*/1)));
  EXPECT_FALSE(IsRight({}, DiskWith(1)));
  std::vector<std::byte> torn = DiskWith(1);
  torn[kStampedSector - 1] ^= std::byte{1};
  EXPECT_FALSE(IsRight({Begun(1, 0)}, torn));
}

TEST(ExpectationTest, WhatWasFoundOnceStays) {
  Expectation expected(2);
  EXPECT_EQ(expected.Judge(std::vector<Entry>{Begun(1, 0)}, false, DiskWith(1)), "");
  EXPECT_EQ(expected.Judge(std::vector<Entry>{Begun(2, 0)}, false, DiskWith(1)), "");
  EXPECT_NE(expected.Judge({}, false, DiskWith(0)), "");
}

}  // namespace
}  // namespace ringcow
