#include "bench/baseline.h"

#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

using Kind = CostChange::Kind;

Costs Usual() {
  return {{"scattered", {{"fsyncs_per_op", 2}, {"enters_per_op", 0.4}}},
          {"cpu/scattered", {{"instructions_per_op", 5000}}}};
}

TEST(BaselineTest, IsReadAsItWasWritten) {
  Costs costs = Usual();
  costs["scattered"]["sqes_per_op"] = 1.0 / 3;
  const auto read = ParseCosts(FormatCosts(costs));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(FormatCosts(*read), FormatCosts(costs));
  const CostComparison comparison = CompareCosts(*read, costs);
  EXPECT_TRUE(comparison.changes.empty()) << DescribeChanges(comparison.changes);
  EXPECT_EQ(comparison.unchanged, 4U);
}

TEST(BaselineTest, RefusesWhatIsNoBaseline) {
  for (const char* text : {"", "[]", "{", "3", R"({"a":1})", R"({"a":{"b":"c"}})"}) {
    EXPECT_EQ(ParseCosts(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

// The negative control: whatever the gate is there to see, it names.
TEST(BaselineTest, NamesWhatBecameWorseAndByHowMuch) {
  Costs now = Usual();
  now["scattered"]["fsyncs_per_op"] = 2.0001;
  const CostComparison comparison = CompareCosts(Usual(), now);
  ASSERT_EQ(comparison.changes.size(), 1U);
  EXPECT_EQ(comparison.changes[0].kind, Kind::kWorse);
  EXPECT_TRUE(comparison.changes[0].fails());
  EXPECT_EQ(comparison.unchanged, 2U);
  const std::string text = DescribeChanges(comparison.changes);
  for (const char* wanted : {"scattered", "fsyncs_per_op", " 2 ", "2.0001", "+0.01%", "WORSE"}) {
    EXPECT_NE(text.find(wanted), std::string::npos) << wanted << " in\n" << text;
  }
}

TEST(BaselineTest, ToleratesWhatDoesNotRepeat) {
  Costs now = Usual();
  now["scattered"]["enters_per_op"] = 0.419;
  now["cpu/scattered"]["instructions_per_op"] = 5099;
  EXPECT_TRUE(CompareCosts(Usual(), now).changes.empty());
  now["scattered"]["enters_per_op"] = 0.421;
  now["cpu/scattered"]["instructions_per_op"] = 5101;
  EXPECT_EQ(CompareCosts(Usual(), now).changes.size(), 2U);
}

TEST(BaselineTest, SomethingWhereNothingWasIsWorse) {
  const Costs before = {{"reads", {{"fsyncs_per_op", 0}}}};
  const CostComparison comparison = CompareCosts(before, {{"reads", {{"fsyncs_per_op", 0.001}}}});
  ASSERT_EQ(comparison.changes.size(), 1U);
  EXPECT_EQ(comparison.changes[0].kind, Kind::kWorse);
  EXPECT_NE(DescribeChanges(comparison.changes).find("+0.001"), std::string::npos);
}

TEST(BaselineTest, AnImprovementIsMentionedAndDoesNotFail) {
  Costs now = Usual();
  now["scattered"]["fsyncs_per_op"] = 1;
  const CostComparison comparison = CompareCosts(Usual(), now);
  ASSERT_EQ(comparison.changes.size(), 1U);
  EXPECT_EQ(comparison.changes[0].kind, Kind::kBetter);
  EXPECT_FALSE(comparison.changes[0].fails());
  EXPECT_NE(DescribeChanges(comparison.changes).find("-50.00%"), std::string::npos);
}

TEST(BaselineTest, WhatOnlyOneSideHasFails) {
  Costs now = Usual();
  now["scattered"].erase("fsyncs_per_op");
  now["new"]["sqes_per_op"] = 1;
  const CostComparison comparison = CompareCosts(Usual(), now);
  ASSERT_EQ(comparison.changes.size(), 2U);
  EXPECT_EQ(comparison.changes[0].kind, Kind::kNew);
  EXPECT_EQ(comparison.changes[1].kind, Kind::kGone);
  EXPECT_TRUE(comparison.changes[0].fails() && comparison.changes[1].fails());
}

}  // namespace
}  // namespace ringcow
