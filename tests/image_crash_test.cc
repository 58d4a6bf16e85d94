// Small scenarios, with the power cut all along what they did to the disk: whatever of it is left,
// the image is whole but for leaked clusters, and holds what was flushed.

#include <cstddef>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/testing/crash_point.h"
#include "engine/testing/disk_trace.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/image.h"
#include "tests/support/checked.h"
#include "tests/support/scenario.h"

namespace ringcow {
namespace {

// Which of the pending changes are left.
enum class Survivors { kNone, kAll, kRandom, kRandomTorn };
constexpr Survivors kSurvivors[] = {Survivors::kNone, Survivors::kAll, Survivors::kRandom,
                                    Survivors::kRandomTorn, Survivors::kRandomTorn};

DiskImage StateAfterCrash(const CrashPoint& point, Survivors survivors, std::mt19937_64& random) {
  DiskImage image = point.durable();
  const uint64_t odds = random() % 3 + 1;  // of 4
  for (const PendingChange& change : point.pending()) {
    const bool is_random = survivors == Survivors::kRandom || survivors == Survivors::kRandomTorn;
    if (survivors == Survivors::kNone || (is_random && random() % 4 >= odds)) continue;
    if (survivors == Survivors::kRandomTorn && change.sectors() > 1) {
      change.ApplyTornTo(image, [&](uint64_t) { return random() % 2 == 0; });
    } else {
      change.ApplyTo(image);
    }
  }
  return image;
}

struct Violations {
  size_t states = 0;
  size_t corrupt = 0;
  size_t wrong_data = 0;  // in images that are whole
  std::string first;
};

void Judge(const DiskImage& state, const StampedGuest& guest, size_t position,
           Violations& violations) {
  ++violations.states;
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, state);
  std::string wrong = FindingsWithoutLeaks(disk);
  if (!wrong.empty()) {
    ++violations.corrupt;
  } else {
    OpenOptions read_only;
    read_only.read_only = true;
    absl::StatusOr<std::unique_ptr<Image>> image = loop.Run(Image::Open(disk, read_only));
    wrong = image.ok() ? guest.CheckAfterCrash(loop, **image, position)
                       : absl::StrCat("cannot be opened: ", image.status().ToString());
    if (!wrong.empty()) ++violations.wrong_data;
  }
  if (!wrong.empty() && violations.first.empty()) {
    violations.first = absl::StrFormat("crash after event %d: %s", position, wrong);
  }
}

// Crashes after each event of `trace`: that of the run, or one in which fsyncs did nothing.
Violations CutPower(const ScenarioRun& run, const DiskTrace& trace, const DiskImage& prepared) {
  std::mt19937_64 random(1);
  Violations violations;
  std::unordered_set<uint64_t> judged;  // since something was promised
  size_t promised = 0;
  CrashPoint point(trace, prepared);
  do {
    if (const size_t now = run.guest().FlushedBefore(point.position()); now != promised) {
      promised = now;
      judged.clear();
    }
    for (const Survivors survivors : kSurvivors) {
      const DiskImage state = StateAfterCrash(point, survivors, random);
      if (!judged.insert(state.Fingerprint()).second) continue;
      Judge(state, run.guest(), point.position(), violations);
    }
  } while (point.Advance());
  return violations;
}

enum class Lies { kAlways, kAfterRefcounts };

// The trace of a disk that ignored fsyncs, all of them or those that keep refcount blocks apart
// from what comes next, and said that they had succeeded.
DiskTrace WithIgnoredFsyncs(const DiskTrace& trace, Lies lies) {
  DiskTrace lied;
  std::unordered_set<uint64_t> ignored;
  Content written = Content::kData;
  for (const TraceEvent& event : trace.events()) {
    if (event.kind == TraceEvent::Kind::kStarted) {
      if (event.request->op == Op::kWrite && event.request->content != Content::kData) {
        written = event.request->content;
      }
      const bool is_ignored = lies == Lies::kAlways || written == Content::kRefcountBlock;
      if (event.request->op == Op::kFdatasync && is_ignored) {
        ignored.insert(event.request->ordinal);
      }
    }
    // A mark keeps the positions that the guest remembers.
    if (event.kind != TraceEvent::Kind::kMark && ignored.contains(event.request->ordinal)) {
      lied.Mark("ignored fsync", event.request->ordinal);
    } else if (event.kind != TraceEvent::Kind::kMark) {
      lied.Add(event.kind, event.request, event.result);
    }
  }
  return lied;
}

class ImageCrashTest : public testing::TestWithParam<Scenario> {
 protected:
  ImageCrashTest() : prepared_(Prepare(GetParam())), run_(GetParam(), prepared_) {
    run_.OpenAndWork();
    run_.Close();
  }

  const DiskImage prepared_;
  ScenarioRun run_;
};

std::vector<Scenario> WithSeeds() {
  std::vector<Scenario> scenarios;
  for (Scenario scenario : AllScenarios()) {
    const uint64_t seeds = scenario.filled_sectors > 0 ? 1 : 3;
    for (scenario.seed = 1; scenario.seed <= seeds; ++scenario.seed) scenarios.push_back(scenario);
  }
  return scenarios;
}

INSTANTIATE_TEST_SUITE_P(Scenarios, ImageCrashTest, testing::ValuesIn(WithSeeds()),
                         testing::PrintToStringParamName());

TEST_P(ImageCrashTest, LeaksAtWorst) {
  ASSERT_EQ(run_.guest().failed(), 0U);
  const Violations violations = CutPower(run_, run_.disk().trace(), prepared_);
  EXPECT_EQ(violations.first, "") << violations.corrupt << " corrupt and " << violations.wrong_data
                                  << " with wrong data of " << violations.states;
  EXPECT_GT(violations.states, 100U);
  RecordProperty("states", static_cast<int>(violations.states));
}

// What the test above looks for is there to be found when the disk lies.
TEST_P(ImageCrashTest, ControlIgnoredFsyncsAreFound) {
  const DiskTrace lied = WithIgnoredFsyncs(run_.disk().trace(), Lies::kAlways);
  const Violations violations = CutPower(run_, lied, prepared_);
  EXPECT_GT(violations.corrupt, 0U);
  EXPECT_GT(violations.wrong_data, 0U);
}

TEST_P(ImageCrashTest, ControlMissingBarrierIsFound) {
  const DiskTrace lied = WithIgnoredFsyncs(run_.disk().trace(), Lies::kAfterRefcounts);
  EXPECT_GT(CutPower(run_, lied, prepared_).corrupt, 0U);
}

}  // namespace
}  // namespace ringcow
