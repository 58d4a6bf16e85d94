#include "tests/explorer/scenario.h"

#include <set>
#include <string>

#include "absl/strings/match.h"
#include "engine/counters.h"
#include "gtest/gtest.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/prepare.h"
#include "tests/explorer/scenario_run.h"
#include "tests/support/checked.h"

namespace ringcow {
namespace {

TEST(Scenarios, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const Scenario& scenario : AllScenarios()) {
    EXPECT_TRUE(names.insert(scenario.name).second) << scenario.name;
    EXPECT_EQ(FindScenario(scenario.name), &scenario);
  }
  EXPECT_EQ(FindScenario("None"), nullptr);
}

TEST(Scenarios, GoThroughAllFormsOfPlans) {
  std::set<PlanForm> forms;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    forms.insert(WithSeed(AllScenarios()[0], seed).open.write_back.form);
  }
  EXPECT_EQ(forms.size(), 4U);
}

class ScenarioTest : public testing::TestWithParam<Scenario> {};

INSTANTIATE_TEST_SUITE_P(Scenarios, ScenarioTest, testing::ValuesIn(AllScenarios()),
                         [](const auto& info) { return info.param.name; });

// Each reaches what it is there for; without a failure it ends in a clean image.
TEST_P(ScenarioTest, DoesWhatItIsFor) {
  Scenario scenario = GetParam();
  scenario.io_fails = false;
  ScenarioRun run(scenario, Prepare(scenario));
  run.OpenAndWork();
  ASSERT_EQ(run.opened(), absl::OkStatus());
  const bool has_grown = run.image()->header().refcount_table_clusters > 1;
  EXPECT_EQ(has_grown, absl::StrContains(scenario.name, "RefcountTable"));
  EXPECT_GT(run.guest().flushes(), 1U);
  EXPECT_EQ(run.guest().CheckLive(run.loop(), *run.image()), "");
  run.Close();
  EXPECT_EQ(run.guest().failed(), 0U);
  EXPECT_EQ(run.guest().misread(), "");
  EXPECT_EQ(run.disk().changed_under_way(), 0U);
  EXPECT_EQ(scenario.leaked_clusters > 0 ? FindingsWithoutLeaks(run.disk()) : Findings(run.disk()),
            "");

  const DiskCounters& counters = run.disk().counters();
  EXPECT_GT(counters[Content::kL2].writes, 1U);
  EXPECT_GT(counters[Content::kRefcountBlock].writes, 1U);
  const bool makes_blocks = absl::StrContains(scenario.name, "RefcountBlocks");
  if (makes_blocks) EXPECT_GT(counters[Content::kRefcountTable].writes, 0U);
  const bool evicts = scenario.name.rfind("Eviction", 0) == 0;
  if (evicts) EXPECT_GT(counters[Content::kL2].reads, 20U);
  if (scenario.unit_bytes < 512) EXPECT_GT(counters.bounced, 10U);
}

// The refcount table grows where its scenario is to make it grow: in a snapshot, and in what it
// makes the guest's writes do.
TEST(Scenarios, RefcountTablesGrowForSnapshots) {
  Scenario scenario = *FindScenario("SnapshotsGrowRefcountTable");
  const DiskImage prepared = Prepare(scenario);
  scenario.workers = 1;
  std::set<std::string> grown_in;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    scenario.seed = seed;
    ScenarioRun run(scenario, prepared);
    run.OpenAndWork(Script());
    for (const Step& step : MakeScript(scenario)) {
      const uint32_t before = run.image()->header().refcount_table_clusters;
      ASSERT_EQ(run.loop().Run(step.operation->run(*run.image(), run.guest(), step.range)),
                absl::OkStatus());
      const uint32_t after = run.image()->header().refcount_table_clusters;
      if (after > before) grown_in.insert(std::string(step.operation->name));
    }
  }
  EXPECT_TRUE(grown_in.contains("snapshot"));
  EXPECT_TRUE(grown_in.contains("write") || grown_in.contains("large"));
}

TEST_P(ScenarioTest, FailsWhenItIsToFail) {
  if (!GetParam().io_fails) return;
  const DiskImage prepared = Prepare(GetParam());
  size_t failed = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    ScenarioRun run(WithSeed(GetParam(), seed), prepared);
    run.OpenAndWork();
    run.Close();
    failed += run.guest().failed() > 0 ? 1 : 0;
  }
  EXPECT_GT(failed, 3U);
}

}  // namespace
}  // namespace ringcow
