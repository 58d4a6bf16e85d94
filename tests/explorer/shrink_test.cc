#include "tests/explorer/shrink.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/match.h"
#include "engine/counters.h"
#include "gtest/gtest.h"
#include "tests/explorer/prepare.h"
#include "tests/explorer/trial.h"

namespace ringcow {
namespace {

bool ForgetsRefcounts(Content after, std::optional<Content> before) {
  return after == Content::kL2 && before == Content::kRefcountBlock;
}

// L2 tables that do not wait for refcounts: a write into one that is durable and a flush (or the
// close) are enough to show it, and it alone is enough to survive.
class ShrinkTest : public testing::Test {
 protected:
  ShrinkTest() : scenario_(*FindScenario("FreshSmall")), prepared_(Prepare(scenario_)) {
    scenario_.open.write_back.forgets_order_for_testing = ForgetsRefcounts;
    scenario_.open.reserve_refcounts = false;  // else hardly any table has to wait
  }

  Scenario scenario_;
  const DiskImage prepared_;
  const ExploreOptions options_;
};

TEST_F(ShrinkTest, FindsTheFewestSteps) {
  const Script script = MakeScript(scenario_);
  ASSERT_TRUE(Trial(scenario_, prepared_, script, options_).failed());
  const Script small =
      ShrinkScript(scenario_, prepared_, script, options_, std::chrono::seconds(30));
  EXPECT_LE(small.size(), 4U) << ToString(small);
  EXPECT_TRUE(Trial(scenario_, prepared_, small, options_).failed()) << ToString(small);
}

TEST_F(ShrinkTest, FindsTheFewestSurvivors) {
  const Trial trial(scenario_, prepared_, MakeScript(scenario_), options_);
  ASSERT_TRUE(trial.failed());
  const Violation violation = ShrinkViolation(trial.run(), trial.run().disk().trace(),
                                              *trial.exploration().first_violation);
  EXPECT_EQ(violation.verdict.kind, Verdict::Kind::kCorrupt);
  const auto survivors =
      std::count_if(violation.remnants.begin(), violation.remnants.end(),
                    [](const Remnant& remnant) { return remnant.kind != Remnant::Kind::kNothing; });
  EXPECT_EQ(survivors, 1);
}

TEST_F(ShrinkTest, ReportsWhatHappenedAndHowToSeeItAgain) {
  const Script script = *ParseScript("0:write@0+1 0:flush 0:write@1+1 0:flush", scenario_.units());
  const std::string report = Report(scenario_, script, prepared_, options_);
  for (const char* part :
       {"--scenario FreshSmall --seed 1 --script '0:write@0+1 0:flush", "started write",
        "the power fails after", "(L2 table): kept", "corrupt: "}) {
    EXPECT_TRUE(absl::StrContains(report, part)) << part << "\n" << report;
  }
}

TEST_F(ShrinkTest, ReportsThatNothingWasFound) {
  scenario_.open.write_back.forgets_order_for_testing = nullptr;
  const std::string report = Report(scenario_, MakeScript(scenario_), prepared_, options_);
  EXPECT_TRUE(absl::StrContains(report, "nothing was found")) << report;
}

}  // namespace
}  // namespace ringcow
