#include "bench/callgrind.h"

#include "gtest/gtest.h"

namespace ringcow {
namespace {

TEST(CallgrindTest, ParsesWhatBothPrint) {
  const auto run = ParseCountedRun(
      "==7== Callgrind, a call-graph generating cache profiler\n"
      "requests 512\nheap_allocations 3\nturns 9\n"
      "==7== \n==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n");
  ASSERT_TRUE(run.has_value());
  EXPECT_EQ(run->instructions, 1234567U);
  EXPECT_EQ(run->requests, 512U);
  EXPECT_EQ(run->heap_allocations, 3U);
  EXPECT_EQ(run->turns, 9U);
}

TEST(CallgrindTest, MissesNothingSilently) {
  EXPECT_EQ(ParseCountedRun(""), std::nullopt);
  EXPECT_EQ(ParseCountedRun("requests 512\nheap_allocations 3\nturns 9\n"), std::nullopt);
  EXPECT_EQ(ParseCountedRun("==7== Collected : 12\nrequests 5\n"), std::nullopt);
  EXPECT_EQ(ParseCountedRun("==7== Collected : \nrequests 0\nheap_allocations 3\nturns 9\n"),
            std::nullopt);
  EXPECT_EQ(ParseCountedRun("==7== Collected : 12\nrequests 0\nheap_allocations 3\nturns 9\n"),
            std::nullopt);
}

}  // namespace
}  // namespace ringcow
