// Small scenarios, run once for every I/O they take, with that one failing: what goes wrong is told
// to somebody, the image stays usable, and at worst some clusters are leaked.

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "engine/testing/sanitized.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/image.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/prepare.h"
#include "tests/explorer/scenario.h"
#include "tests/explorer/scenario_run.h"
#include "tests/support/checked.h"

namespace ringcow {
namespace {

struct FaultCase {
  Scenario scenario;
  FailureKind kind;
};
std::ostream& operator<<(std::ostream& out, const FaultCase& fault_case) {
  return out << fault_case.scenario << NameOf(fault_case.kind);
}

std::vector<FaultCase> AllCases() {
  std::vector<FaultCase> cases;
  uint64_t seed = 0;
  for (const Scenario& scenario : AllScenarios()) {
    if (scenario.io_fails) continue;
    for (const FailureKind kind : kAllFailureKinds)
      cases.push_back({WithSeed(scenario, ++seed), kind});
    // So that each form of write-back meets each kind of failure.
    ++seed;
  }
  return cases;
}

class ImageFaultTest : public testing::TestWithParam<FaultCase> {
 protected:
  // The scenario with its n-th request failing. The number of requests it took.
  uint64_t RunWithFault(const DiskImage& prepared, uint64_t n);

 private:
  void ExpectUsable(ScenarioRun& run);
  void ExpectIntact(ScenarioRun& run);
};

INSTANTIATE_TEST_SUITE_P(Cases, ImageFaultTest, testing::ValuesIn(AllCases()),
                         testing::PrintToStringParamName());

uint64_t ImageFaultTest::RunWithFault(const DiskImage& prepared, uint64_t n) {
  const FailureKind kind = GetParam().kind;
  ScenarioRun run(GetParam().scenario, prepared);
  Op failed_op = Op::kRead;
  bool can_be_forgotten = true;
  const SimDisk::FaultHook fail_nth = FailNth(kind, n);
  run.disk().SetFaults([&](const Request& request, uint64_t ordinal) {
    if (ordinal == n) failed_op = request.op;
    if (ordinal >= n) can_be_forgotten &= request.op == Op::kPunch || request.op == Op::kRead;
    return fail_nth(request, ordinal);
  });
  run.OpenAndWork();
  const uint64_t requests = run.disk().requests();
  const bool told = !run.opened().ok() || run.guest().failed() > 0;
  // Space that is not given back is no failure, nor is a search for what to reserve.
  if (kind == FailureKind::kDeadDisk) EXPECT_TRUE(told || can_be_forgotten);

  run.disk().SetFaults(nullptr);
  if (run.opened().ok()) {
    if (failed_op == Op::kFdatasync && kind != FailureKind::kShort &&
        kind != FailureKind::kCancelled) {
      EXPECT_FALSE(run.image()->failure().ok()) << "an fsync failed and was forgotten";
    }
    ExpectUsable(run);
    run.Close();
  }
  ExpectIntact(run);
  if (requests <= n) {
    const bool leaks = run.scenario().leaked_clusters > 0;
    EXPECT_EQ(leaks ? FindingsWithoutLeaks(run.disk()) : Findings(run.disk()), "")
        << "though nothing failed";
  }
  return requests;
}

// What was acknowledged can be read, and writing goes on. Not after a failed fsync: then no write
// is accepted, and what needs a place in a cache full of changes that cannot be written is refused.
void ImageFaultTest::ExpectUsable(ScenarioRun& run) {
  const bool is_usable = run.image()->failure().ok();
  const auto expect_readable = [&] {
    const std::string wrong = run.guest().CheckLive(run.loop(), *run.image());
    if (is_usable || !absl::StrContains(wrong, run.image()->failure().message())) {
      EXPECT_EQ(wrong, "");
    }
  };
  expect_readable();
  EXPECT_EQ(run.WorkSomeMore(), is_usable) << run.image()->failure();
  EXPECT_EQ(run.loop().Run(run.guest().Flush(*run.image())).ok(), is_usable);
  expect_readable();
}

// Read by somebody else, the image is whole, and holds at least what was flushed.
void ImageFaultTest::ExpectIntact(ScenarioRun& run) {
  EXPECT_EQ(run.scenario().takes_snapshots() ? FindingsExceptHarmlessCopied(run.disk())
                                             : FindingsWithoutLeaks(run.disk()),
            "");
  OpenOptions read_only = run.open_options();
  read_only.read_only = true;
  absl::StatusOr<std::unique_ptr<Image>> image = run.loop().Run(Image::Open(run.disk(), read_only));
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(run.guest().CheckAfterCrash(run.loop(), **image, run.disk().trace().size()), "");
}

TEST_P(ImageFaultTest, EveryRequestFailsOnce) {
  const DiskImage prepared = Prepare(GetParam().scenario);
  uint64_t n = GetParam().scenario.seed % kFaultStride;
  for (; n < RunWithFault(prepared, n); n += kFaultStride) {
    if (HasFailure()) FAIL() << "request " << n;
  }
  EXPECT_GT(n, 30U);
  RecordProperty("requests", static_cast<int>(n));
}

}  // namespace
}  // namespace ringcow
