// All scenarios, with the power cut all along what they did to the disk: whatever of it is left,
// the image is whole but for leaked clusters, holds what was flushed, shows nothing that was not
// written, and can be written to.

#include <cstddef>
#include <string>
#include <vector>

#include "engine/testing/sanitized.h"
#include "gtest/gtest.h"
#include "tests/explorer/explore.h"
#include "tests/explorer/prepare.h"
#include "tests/explorer/scenario.h"
#include "tests/explorer/script.h"
#include "tests/explorer/shrink.h"
#include "tests/explorer/trial.h"

namespace ringcow {
namespace {

// What all scenarios have together, at least.
constexpr size_t kStates = kIsSanitized ? 3'000 : 120'000;

size_t StatesOf(const Scenario& scenario) {
  size_t shares = 0;
  for (const Scenario& other : AllScenarios()) shares += other.share;
  return kStates * scenario.share / shares + 1;
}

class CrashExplorerTest : public testing::TestWithParam<Scenario> {};

INSTANTIATE_TEST_SUITE_P(Scenarios, CrashExplorerTest, testing::ValuesIn(SomeOf(AllScenarios())),
                         [](const auto& info) { return info.param.name; });

TEST_P(CrashExplorerTest, LeaksAtWorst) {
  const DiskImage prepared = Prepare(GetParam());
  const size_t wanted = StatesOf(GetParam());
  size_t states = 0;
  size_t gone_on = 0;
  for (uint64_t seed = 1; states < wanted; ++seed) {
    const Scenario scenario = WithSeed(GetParam(), seed);
    const Script script = MakeScript(scenario);
    ExploreOptions options;
    options.seed = seed;
    if (kIsSanitized) options.budget = {.subsets = 4, .samples = 1, .torn = 2};
    const Trial trial(scenario, prepared, script, options);
    ASSERT_FALSE(trial.failed()) << Report(scenario, script, prepared, options);
    ASSERT_GT(trial.exploration().states, 0U) << "seed " << seed;
    states += trial.exploration().states;
    gone_on += trial.exploration().gone_on;
  }
  EXPECT_GE(states, wanted);
  EXPECT_GT(gone_on, states / 100);
  RecordProperty("states", static_cast<int>(states));
}

// Deleting a snapshot needs a cluster for the table of those that stay: here the refcount table has
// to grow for it, whatever else is free by then.
TEST(CrashExplorer, RefcountTableGrowsForTheDeletionOfASnapshot) {
  Scenario scenario = *FindScenario("SnapshotsGrowRefcountTable");
  scenario.workers = 1;
  const DiskImage prepared = Prepare(scenario);
  bool has_grown = false;
  for (uint64_t writes = 0; writes < 32 && !has_grown; ++writes) {
    Script script = {{0, &kSnapshot, {}}, {0, &kSnapshot, {}}};
    for (uint64_t i = 0; i < writes; ++i) script.push_back({0, &kWrite, {i, 1}});
    ScenarioRun run(scenario, prepared);
    run.OpenAndWork(script);
    const uint32_t before = run.image()->header().refcount_table_clusters;
    ASSERT_EQ(run.loop().Run(run.image()->DeleteSnapshot(0)), absl::OkStatus());
    has_grown = run.image()->header().refcount_table_clusters > before;
    if (!has_grown) continue;
    script.push_back({0, &kDeleteSnapshot, {}});
    script.push_back({0, &kWrite, {writes, 1}});
    script.push_back({0, &kFlush, {}});
    const Trial trial(scenario, prepared, script, ExploreOptions());
    ASSERT_FALSE(trial.failed()) << Report(scenario, script, prepared, ExploreOptions());
    EXPECT_GT(trial.exploration().states, 100U);
  }
  EXPECT_TRUE(has_grown);
}

TEST(CrashExplorerSize, IsAtLeastAHundredThousandStates) {
  size_t states = 0;
  for (const Scenario& scenario : AllScenarios()) states += StatesOf(scenario);
  EXPECT_GE(states, kIsSanitized ? kStates : 100'000U);
}

}  // namespace
}  // namespace ringcow
