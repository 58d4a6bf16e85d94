// Small scenarios, run once for every I/O they take, with that one failing: what goes wrong is told
// to somebody, the image stays usable, and at worst some clusters are leaked.

#include <cerrno>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/image.h"
#include "tests/support/checked.h"
#include "tests/support/scenario.h"

namespace ringcow {
namespace {

enum class Kind { kError, kErrorButDone, kNoSpace, kShort, kCancelled, kDeadDisk };

struct Failure {
  std::string name;
  Kind kind;
};

const Failure kFailures[] = {{"Error", Kind::kError},         {"ErrorButDone", Kind::kErrorButDone},
                             {"NoSpace", Kind::kNoSpace},     {"Short", Kind::kShort},
                             {"Cancelled", Kind::kCancelled}, {"DeadDisk", Kind::kDeadDisk}};

Fault FaultOf(Kind kind, const Request& request) {
  switch (kind) {
    case Kind::kError:
    case Kind::kDeadDisk:
      return Fault::Error(EIO);
    case Kind::kErrorButDone:
      return request.op == Op::kRead ? Fault::Error(EIO) : Fault::Error(EIO, Fault::kAll);
    case Kind::kNoSpace:
      return Fault::Error(ENOSPC);
    case Kind::kShort:
      return request.is_transfer() ? Fault::Short(request.length / 1024 * 512) : Fault();
    case Kind::kCancelled:
      return Fault::Error(ECANCELED);
  }
  return Fault();
}

struct FaultCase {
  Scenario scenario;
  Failure failure;
};
std::ostream& operator<<(std::ostream& out, const FaultCase& fault_case) {
  return out << fault_case.scenario << fault_case.failure.name;
}

std::vector<FaultCase> AllCases() {
  std::vector<FaultCase> cases;
  for (const Scenario& scenario : AllScenarios()) {
    // The cheap ones more often.
    const uint64_t seeds = scenario.filled_sectors > 0 ? 1 : 5;
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
      for (const Failure& failure : kFailures) {
        cases.push_back({scenario, failure});
        cases.back().scenario.seed = seed;
      }
    }
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
  const Kind kind = GetParam().failure.kind;
  ScenarioRun run(GetParam().scenario, prepared);
  Op failed_op = Op::kRead;
  run.disk().SetFaults([&](const Request& request, uint64_t ordinal) {
    if (ordinal != n && (kind != Kind::kDeadDisk || ordinal < n)) return Fault();
    if (ordinal == n) failed_op = request.op;
    return FaultOf(kind, request);
  });
  run.OpenAndWork();
  const uint64_t requests = run.disk().requests();
  const bool told = !run.opened().ok() || run.guest().failed() > 0;
  if (kind == Kind::kDeadDisk) EXPECT_TRUE(told || requests <= n);

  run.disk().SetFaults(nullptr);
  if (run.opened().ok()) {
    if (failed_op == Op::kFdatasync && kind != Kind::kShort && kind != Kind::kCancelled) {
      EXPECT_FALSE(run.image()->failure().ok()) << "an fsync failed and was forgotten";
    }
    ExpectUsable(run);
    run.Close();
  }
  ExpectIntact(run);
  if (requests <= n) {
    EXPECT_EQ(Findings(run.disk()), "") << "though nothing failed";
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
  EXPECT_EQ(FindingsWithoutLeaks(run.disk()), "");
  OpenOptions read_only;
  read_only.read_only = true;
  absl::StatusOr<std::unique_ptr<Image>> image = run.loop().Run(Image::Open(run.disk(), read_only));
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(run.guest().CheckAfterCrash(run.loop(), **image, run.disk().trace().size()), "");
}

TEST(Scenarios, DoWhatTheyAreFor) {
  for (const Scenario& scenario : AllScenarios()) {
    SCOPED_TRACE(scenario.name);
    ScenarioRun run(scenario, Prepare(scenario));
    run.OpenAndWork();
    ASSERT_EQ(run.opened(), absl::OkStatus());
    const bool has_grown = run.image()->header().refcount_table_clusters > 1;
    EXPECT_EQ(has_grown, scenario.name == "RefcountTableGrows");
    EXPECT_GT(run.guest().flushes(), 1U);
    run.Close();
    EXPECT_EQ(run.guest().failed(), 0U);
    const DiskCounters& counters = run.disk().counters();
    EXPECT_GT(counters[Content::kL1].writes, 0U);
    EXPECT_GT(counters[Content::kL2].writes, 1U);
    EXPECT_GT(counters[Content::kRefcountBlock].writes, 1U);
    EXPECT_EQ(Findings(run.disk()), "");
  }
}

TEST_P(ImageFaultTest, EveryRequestFailsOnce) {
  const DiskImage prepared = Prepare(GetParam().scenario);
  uint64_t n = 0;
  for (; n < RunWithFault(prepared, n); ++n) {
    if (HasFailure()) FAIL() << "request " << n;
  }
  EXPECT_GT(n, 30U);
  RecordProperty("requests", static_cast<int>(n));
}

}  // namespace
}  // namespace ringcow
