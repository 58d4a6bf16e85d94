#include "tests/explorer/crash_states.h"

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/testing/crash_point.h"
#include "engine/testing/disk_trace.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

// A trace that ends with `count` writes of `sectors` each on the disk, side by side.
DiskTrace PendingWrites(uint64_t count, uint64_t sectors) {
  DiskTrace trace;
  for (uint64_t i = 0; i < count; ++i) {
    auto write = std::make_shared<TracedRequest>();
    write->ordinal = i;
    write->length = sectors * 512;
    write->offset = HostOffset(i * write->length);
    write->bytes.assign(write->length, std::byte{1});
    trace.Add(TraceEvent::Kind::kStarted, write);
    trace.Add(TraceEvent::Kind::kApplied, write, static_cast<int64_t>(write->length));
  }
  return trace;
}

// Which sectors are written, as text, for all states.
std::multiset<std::string> StatesOfPending(uint64_t count, uint64_t sectors,
                                           const StateBudget& budget) {
  const DiskTrace trace = PendingWrites(count, sectors);
  CrashPoint point(trace);
  point.AdvanceTo(trace.size());
  std::mt19937_64 random(1);
  std::multiset<std::string> states;
  ForEachCrash(point, budget, random, [&](const Remnants& remnants) {
    const DiskImage image = StateOf(point, remnants);
    std::string state;
    for (uint64_t sector = 0; sector < count * sectors; ++sector) {
      std::byte byte{};
      image.Read(sector * 512, {&byte, 1});
      state += byte == std::byte{0} ? '.' : 'x';
    }
    states.insert(state);
    return true;
  });
  return states;
}

TEST(CrashStates, AreAllSubsetsWhileThereAreFew) {
  const auto states = StatesOfPending(4, 1, {.subsets = 16, .samples = 0, .torn = 100});
  EXPECT_EQ(states.size(), 16U);
  EXPECT_EQ(std::set<std::string>(states.begin(), states.end()).size(), 16U);
}

TEST(CrashStates, AreChosenWhenThereAreMany) {
  const auto states = StatesOfPending(5, 1, {.subsets = 16, .samples = 7, .torn = 0});
  EXPECT_EQ(states.size(), 2 + 3 * 5 + 7U);
  for (const char* state : {".....", "xxxxx", "..x..", "xx.xx", "xxx.."}) {
    EXPECT_TRUE(states.contains(state)) << state;
  }
}

TEST(CrashStates, AreTornInEachWayBesideWhatIsThereOrGone) {
  const auto states = StatesOfPending(2, 4, {.subsets = 4, .samples = 0, .torn = 30});
  for (const char* state :
       {"x.......", "...x....", "x.x.....", ".x.x....", "x...xxxx", "xxxx.x.x", "....x..."}) {
    EXPECT_TRUE(states.contains(state)) << state;
  }
}

TEST(CrashStates, AreSampledWhenTooManyCanBeTorn) {
  EXPECT_EQ(StatesOfPending(9, 4, {.subsets = 4, .samples = 0, .torn = 20}).size(), 2 + 27 + 20U);
}

TEST(CrashStates, EndWhenNobodyWantsMore) {
  const DiskTrace trace = PendingWrites(6, 2);
  CrashPoint point(trace);
  point.AdvanceTo(trace.size());
  std::mt19937_64 random(1);
  size_t visited = 0;
  ForEachCrash(point, StateBudget(), random, [&](const Remnants&) { return ++visited < 5; });
  EXPECT_EQ(visited, 5U);
}

}  // namespace
}  // namespace ringcow
