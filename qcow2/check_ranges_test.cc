#include "qcow2/check_ranges.h"

#include <map>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Range = WeightedRange;

TEST(CheckRangesTest, KeepsWhatDoesNotOverlap) {
  EXPECT_THAT(SplitOverlaps({}), IsEmpty());
  EXPECT_THAT(SplitOverlaps({{5, 5}}), IsEmpty());
  EXPECT_THAT(SplitOverlaps({{20, 30, 1, true}, {0, 10}, {10, 20}}),
              ElementsAre(Range{20, 30, 1, true}, Range{0, 10}, Range{10, 20}));
}

TEST(CheckRangesTest, AddsTheWeightsOfTheSameRange) {
  EXPECT_THAT(SplitOverlaps({{8, 16}, {8, 16, 3}}), ElementsAre(Range{8, 16, 4}));
}

TEST(CheckRangesTest, CutsOverlapsInTheOrderOfTheFirst) {
  EXPECT_THAT(SplitOverlaps({{10, 20, 1, true}, {0, 40}, {15, 30}}),
              ElementsAre(Range{10, 15, 2, true}, Range{15, 20, 3, true}, Range{0, 10, 1},
                          Range{20, 30, 2}, Range{30, 40, 1}));
}

TEST(CheckRangesTest, EveryByteKeepsItsWeight) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<Range> ranges;
    std::map<uint64_t, uint64_t> expected;
    for (int i = 0; i < 12; ++i) {
      const uint64_t begin = random() % 60;
      ranges.push_back({begin, begin + random() % 20, 1 + random() % 3});
      for (uint64_t at = begin; at < ranges.back().end; ++at) expected[at] += ranges.back().weight;
    }
    std::map<uint64_t, uint64_t> actual;
    for (const Range& range : SplitOverlaps(ranges)) {
      for (uint64_t at = range.begin; at < range.end; ++at) {
        ASSERT_TRUE(actual.emplace(at, range.weight).second) << at;
      }
    }
    ASSERT_EQ(actual, expected);
  }
}

}  // namespace
}  // namespace ringcow
