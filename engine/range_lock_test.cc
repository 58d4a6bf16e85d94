#include "engine/range_lock.h"

#include <cstdint>
#include <random>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "engine/scope.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

using ::testing::ElementsAre;

struct Range {
  uint64_t begin;
  uint64_t end;

  bool Overlaps(const Range& other) const { return begin < other.end && other.begin < end; }
};

Task<absl::Status> HoldFor(Loop& loop, RangeLock& locks, Range range, int turns, int id,
                           std::vector<int>& granted) {
  RangeLock::Hold hold(locks, range.begin, range.end);
  co_await hold;
  granted.push_back(id);
  for (int i = 0; i < turns; ++i) co_await loop.Yield();
  co_return absl::OkStatus();
}

Task<void> OverlapInOrder(Loop& loop, std::vector<int>& granted) {
  RangeLock locks(loop);
  EXPECT_TRUE(locks.empty());
  Scope scope(loop);
  scope.Spawn(HoldFor(loop, locks, {0, 10}, 5, 0, granted));
  scope.Spawn(HoldFor(loop, locks, {5, 25}, 1, 1, granted));   // waits for 0
  scope.Spawn(HoldFor(loop, locks, {20, 30}, 1, 2, granted));  // waits for 1, which waits
  scope.Spawn(HoldFor(loop, locks, {10, 20}, 1, 3, granted));  // waits for 1
  scope.Spawn(HoldFor(loop, locks, {30, 40}, 1, 4, granted));  // only touches 2
  EXPECT_THAT(granted, ElementsAre(0, 4));
  EXPECT_TRUE(locks.Overlaps(9, 10));
  EXPECT_TRUE(locks.Overlaps(24, 25));  // waited for
  EXPECT_FALSE(locks.Overlaps(40, 50));
  EXPECT_TRUE((co_await scope.Join()).ok());
  EXPECT_TRUE(locks.empty());
}

TEST(RangeLockTest, GrantsOverlappingRangesInTheOrderOfAsking) {
  Loop loop;
  std::vector<int> granted;
  loop.Run(OverlapInOrder(loop, granted));
  EXPECT_THAT(granted, ElementsAre(0, 4, 1, 2, 3));
}

struct Model {
  Loop loop;
  RangeLock locks{loop};
  std::vector<Range> ranges;
  std::set<size_t> held;
  size_t most_at_once = 0;
};

Task<absl::Status> HoldExclusively(Model& model, size_t index, int turns) {
  const Range range = model.ranges[index];
  RangeLock::Hold hold(model.locks, range.begin, range.end);
  co_await hold;
  for (const size_t other : model.held) {
    EXPECT_FALSE(range.Overlaps(model.ranges[other])) << index << " and " << other;
  }
  model.held.insert(index);
  model.most_at_once = std::max(model.most_at_once, model.held.size());
  for (int i = 0; i < turns; ++i) co_await model.loop.Yield();
  model.held.erase(index);
  co_return absl::OkStatus();
}

Task<absl::Status> HoldManyAtRandom(Model& model, std::mt19937& random) {
  Scope scope(model.loop);
  for (size_t i = 0; i < 500; ++i) {
    const uint64_t begin = random() % 200;
    model.ranges.push_back({begin, begin + 1 + random() % 20});
    scope.Spawn(HoldExclusively(model, i, static_cast<int>(random() % 4)));
    if (random() % 8 == 0) co_await model.loop.Yield();
  }
  co_return co_await scope.Join();
}

TEST(RangeLockTest, NeverGrantsTwoOverlappingRangesAndLosesNobody) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    Model model;
    EXPECT_TRUE(model.loop.Run(HoldManyAtRandom(model, random)).ok());
    EXPECT_TRUE(model.locks.empty());
    EXPECT_GT(model.most_at_once, 1U);
  }
}

}  // namespace
}  // namespace ringcow
