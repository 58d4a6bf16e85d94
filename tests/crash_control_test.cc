// Negative controls of the crash explorer: one promise after the other is broken, by the cache or
// by the disk, and each time the explorer has to find it.

#include <cerrno>
#include <cstddef>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <utility>

#include "engine/counters.h"
#include "engine/testing/disk_trace.h"
#include "engine/testing/ignored_fsyncs.h"
#include "engine/testing/sanitized.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "tests/explorer/explore.h"
#include "tests/explorer/prepare.h"
#include "tests/explorer/scenario.h"
#include "tests/explorer/scenario_run.h"

namespace ringcow {
namespace {

using Kind = Verdict::Kind;
using ForgetsOrder = WriteBackOptions::ForgetsOrder;

// What is broken, and where.
struct Control {
  const char* name;
  const char* scenario;
  Kind found;
  std::optional<PlanForm> form = std::nullopt;  // by default one after the other
  ForgetsOrder forgets = nullptr;
  SimDisk::Flaws flaws = {};
  SimDisk::FaultHook faults = nullptr;
  bool (*ignores_fsync)(size_t n, Content written) = nullptr;
};
std::ostream& operator<<(std::ostream& out, const Control& control) { return out << control.name; }

// Every third write of `content` goes wrong.
SimDisk::FaultHook EveryThird(Content content, Fault fault) {
  return [content, fault, writes = 0](const Request& request, uint64_t) mutable {
    if (request.op != Op::kWrite || request.content != content) return Fault::None();
    return ++writes % 3 == 0 ? fault : Fault::None();
  };
}

const Control kControls[] = {
    {.name = "NoFsyncs",
     .scenario = "FreshSmall",
     .found = Kind::kWrongData,
     .ignores_fsync = [](size_t, Content) { return true; }},
    {.name = "NoFsyncBetweenStages",
     .scenario = "FreshSmall",
     .found = Kind::kCorrupt,
     .ignores_fsync = [](size_t, Content written) { return written == Content::kRefcountBlock; }},
    {.name = "NoFsyncBehindTheLastStage",
     .scenario = "FreshSmall",
     .found = Kind::kWrongData,
     .ignores_fsync = [](size_t, Content written) { return written == Content::kL2; }},
    {.name = "NoDrain",
     .scenario = "FreshSmall",
     .found = Kind::kCorrupt,
     .form = PlanForm::kChain,
     .flaws = {.ignores_drains = true, .unlinks_first_stage = true}},
    {.name = "L2BeforeRefcounts",
     .scenario = "FreshSmall",
     .found = Kind::kCorrupt,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && before == Content::kRefcountBlock;
         }},
    {.name = "L2BeforeRefcountsInWritethrough",
     .scenario = "Writethrough",
     .found = Kind::kCorrupt,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && before == Content::kRefcountBlock;
         }},
    {.name = "L2BeforeRefcountsInEviction",
     .scenario = "Eviction",
     .found = Kind::kCorrupt,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && before == Content::kRefcountBlock;
         }},
    {.name = "L2BeforeTheRefcountTable",
     .scenario = "RefcountBlocks",
     .found = Kind::kCorrupt,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && before == Content::kRefcountTable;
         }},
    // What is reserved is used before its refcounts are durable.
    {.name = "ReservedTooLate",
     .scenario = "Reserved",
     .found = Kind::kCorrupt,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kOther && before == Content::kRefcountBlock;
         }},
    // And given back though an L2 table refers to it, of which the record does not know.
    {.name = "ReclaimedBehindTheRecordedRange",
     .scenario = "Recorded",
     .found = Kind::kReclaimed,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && before == Content::kReserveRecord;
         }},
    // And though a snapshot refers to it: the record was not ended, durably, before.
    {.name = "ReclaimedThoughASnapshotRefersToIt",
     .scenario = "RecordedSnapshots",
     .found = Kind::kReclaimed,
     .ignores_fsync =
         [](size_t, Content written) {
           return written != Content::kL2 && written != Content::kData;
         }},
    {.name = "L1BeforeRefcounts",
     .scenario = "FreshSmall",
     .found = Kind::kCorrupt,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL1 && before == Content::kRefcountBlock;
         }},
    {.name = "L1BeforeItsL2Table",
     .scenario = "StaleClusters",
     .found = Kind::kCorrupt,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL1 && before == Content::kL2;
         }},
    // The entry waits for an fsync also because the file may have grown.
    {.name = "RefcountTableEntryBeforeItsBlock",
     .scenario = "RefcountBlocks",
     .found = Kind::kCorrupt,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kRefcountTable &&
                  (before == Content::kRefcountBlock || !before.has_value());
         }},
    {.name = "HeaderBeforeItsRefcountTable",
     .scenario = "RefcountTableGrows",
     .found = Kind::kCorrupt,
     .ignores_fsync = [](size_t, Content written) { return written == Content::kRefcountTable; }},
    {.name = "FreedClusterReusedTooEarly",
     .scenario = "RefcountTableGrows",
     .found = Kind::kCorrupt,
     .ignores_fsync = [](size_t, Content written) { return written == Content::kHeader; }},
    {.name = "DataNotDurableBeforeItIsShown",
     .scenario = "StaleClusters",
     .found = Kind::kWrongData,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && !before.has_value();
         }},
    // As if every cluster held zeroes for a guest that sees zeroes.
    {.name = "EnteredEarlyThoughItHoldsOldBytes",
     .scenario = "StaleClusters",
     .found = Kind::kWrongData,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && before == Content::kData;
         }},
    {.name = "PartOfAClusterNotDurableBeforeItIsShown",
     .scenario = "StaleParts",
     .found = Kind::kWrongData,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && !before.has_value();
         }},
    {.name = "CopiedDataNotDurableBeforeItIsShown",
     .scenario = "StaleOverlay",
     .found = Kind::kWrongData,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && !before.has_value();
         }},
    {.name = "SubclustersNotDurableBeforeTheyAreShown",
     .scenario = "Subclusters",
     .found = Kind::kWrongData,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && !before.has_value();
         }},
    // The refcount of a discarded cluster falls while the disk still refers to it.
    {.name = "FreedBeforeTheRemovalIsDurable",
     .scenario = "ZeroesAndDiscards",
     .found = Kind::kCorrupt,
     .ignores_fsync = [](size_t, Content written) { return written == Content::kL2; }},
    {.name = "CompressedDataNotDurableBeforeItIsShown",
     .scenario = "CompressedStale",
     .found = Kind::kUnreadable,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && !before.has_value();
         }},
    {.name = "CompressedClusterBeforeItsRefcounts",
     .scenario = "Compressed",
     .found = Kind::kCorrupt,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kL2 && before == Content::kRefcountBlock;
         }},
    {.name = "SnapshotBeforeItsRefcounts",
     .scenario = "Snapshots",
     .found = Kind::kCorrupt,
     .ignores_fsync = [](size_t, Content written) { return written == Content::kRefcountBlock; }},
    {.name = "RefcountTableEntryBeforeItsBlockForASnapshot",
     .scenario = "SnapshotsGrowRefcountBlocks",
     .found = Kind::kCorrupt,
     .forgets =
         [](Content after, std::optional<Content> before) {
           return after == Content::kRefcountTable &&
                  (before == Content::kRefcountBlock || !before.has_value());
         }},
    {.name = "HeaderBeforeItsRefcountTableForASnapshot",
     .scenario = "SnapshotsGrowRefcountTable",
     .found = Kind::kCorrupt,
     .ignores_fsync = [](size_t, Content written) { return written == Content::kRefcountTable; }},
    {.name = "SnapshotAppliedBeforeItsRefcounts",
     .scenario = "SnapshotsApplied",
     .found = Kind::kCorrupt,
     .ignores_fsync = [](size_t, Content written) { return written == Content::kRefcountBlock; }},
    {.name = "SnapshotAppliedAndNotDurable",
     .scenario = "SnapshotsApplied",
     .found = Kind::kWrongData,
     .ignores_fsync = [](size_t, Content) { return true; }},
    {.name = "EmptiedAndFreedTooEarly",
     .scenario = "Emptying",
     .found = Kind::kCorrupt,
     .ignores_fsync = [](size_t, Content written) { return written == Content::kL2; }},
    {.name = "ShortDataTakenForSuccess",
     .scenario = "FreshSmall",
     .found = Kind::kWrongData,
     .faults = EveryThird(Content::kData, Fault::HiddenShort(0))},
    {.name = "ShortRefcountsTakenForSuccess",
     .scenario = "FreshSmall",
     .found = Kind::kCorrupt,
     .faults = EveryThird(Content::kRefcountBlock, Fault::HiddenShort(0))},
    {.name = "ShortL2TakenForSuccess",
     .scenario = "FreshSmall",
     .found = Kind::kWrongData,
     .faults = EveryThird(Content::kL2, Fault::HiddenShort(0))},
    {.name = "ErrorInAChainIgnored",
     .scenario = "FreshSmall",
     .found = Kind::kCorrupt,
     .form = PlanForm::kChain,
     .flaws = {.ignores_errors = true},
     .faults = EveryThird(Content::kRefcountBlock, Fault::Error(EIO))},
    {.name = "ShortWriteInAChainIgnored",
     .scenario = "FreshSmall",
     .found = Kind::kCorrupt,
     .form = PlanForm::kChain,
     .flaws = {.ignores_errors = true},
     .faults = EveryThird(Content::kRefcountBlock, Fault::Short(0))},
};

// All seeds that are tried, added up.
Exploration ExploreWith(const Control& control) {
  Exploration sum;
  const Scenario* base = FindScenario(control.scenario);
  if (base == nullptr) return sum;
  const DiskImage prepared = Prepare(*base);
  for (uint64_t seed = 1; seed <= 6 && sum[control.found] == 0; ++seed) {
    Scenario scenario = WithSeed(*base, seed);
    if (control.form.has_value()) scenario.open.write_back.form = *control.form;
    scenario.open.write_back.forgets_order_for_testing = control.forgets;
    ScenarioRun run(scenario, prepared, control.flaws);
    if (control.faults) run.disk().SetFaults(control.faults);
    run.OpenAndWork();
    run.Close();
    const DiskTrace& trace = run.disk().trace();
    ExploreOptions options;
    options.seed = seed;
    options.go_on_every = 0;
    options.stop_at_violation = false;  // the first one may be of another kind
    if (kIsSanitized) options.budget = {.subsets = 16, .samples = 4, .torn = 6};
    const Exploration found =
        control.ignores_fsync == nullptr
            ? Explore(run, trace, options)
            : Explore(run, WithIgnoredFsyncs(trace, control.ignores_fsync), options);
    sum.states += found.states;
    for (size_t i = 0; i < sum.by_verdict.size(); ++i) sum.by_verdict[i] += found.by_verdict[i];
  }
  return sum;
}

class CrashControlTest : public testing::TestWithParam<Control> {};

INSTANTIATE_TEST_SUITE_P(Controls, CrashControlTest, testing::ValuesIn(SomeOf(kControls)),
                         testing::PrintToStringParamName());

TEST_P(CrashControlTest, IsFound) {
  const Exploration sum = ExploreWith(GetParam());
  EXPECT_GT(sum[GetParam().found], 0U)
      << sum.states << " states: " << sum[Kind::kCorrupt] << " corrupt, " << sum[Kind::kUnreadable]
      << " unreadable, " << sum[Kind::kWrongData] << " with wrong data";
}

// It is the drain that is missed above: with it, a first stage of unlinked writes is as good as one
// of linked ones.
TEST(CrashControl, DrainAloneKeepsTheFirstStageInOrder) {
  Control control;
  control.scenario = "FreshSmall";
  control.found = Kind::kCorrupt;
  control.form = PlanForm::kChain;
  control.flaws.unlinks_first_stage = true;
  const Exploration sum = ExploreWith(control);
  EXPECT_GT(sum.states, 1000U);
  EXPECT_EQ(sum[Kind::kGood], sum.states);
}

}  // namespace
}  // namespace ringcow
