// A sample of what crashes may leave, in files: QEMU, too, finds leaks at worst, reads what we
// read, and can go on writing.

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/loop.h"
#include "engine/testing/sanitized.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/image.h"
#include "tests/explorer/explore.h"
#include "tests/explorer/inherited_disk.h"
#include "tests/explorer/prepare.h"
#include "tests/explorer/scenario.h"
#include "tests/explorer/scenario_run.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

constexpr size_t kSample = 3;  // states of each scenario, at most
constexpr int kLeaksOnly = 3;  // qemu-img check

// `count` of the good states, each as likely as any other.
std::vector<DiskImage> SampleStates(const Scenario& scenario, size_t count) {
  ScenarioRun run(scenario, Prepare(scenario));
  run.OpenAndWork();
  run.Close();
  std::mt19937_64 random(scenario.seed);
  std::vector<DiskImage> sample;
  size_t seen = 0;
  ExploreOptions options;
  options.go_on_every = 0;
  options.budget = {.subsets = 4, .samples = 2, .torn = 3};  // crash_explorer_test looks at all
  options.on_good_state = [&](const DiskImage& state, size_t) {
    ++seen;
    if (sample.size() < count) {
      sample.push_back(state);
    } else if (const size_t place = random() % seen; place < count) {
      sample[place] = state;
    }
  };
  EXPECT_FALSE(Explore(run, run.disk().trace(), options).first_violation.has_value());
  return sample;
}

// The guest's disk as we read it.
DiskImage GuestBytes(const DiskImage& state, GuestDisk& backing) {
  Loop loop;
  SimDisk disk(loop, {.record = false}, state);
  OpenOptions read_only;
  read_only.backing = &backing;
  read_only.read_only = true;
  const absl::StatusOr<std::unique_ptr<Image>> image = loop.Run(Image::Open(disk, read_only));
  EXPECT_TRUE(image.ok()) << image.status();
  const AlignedBuffer bytes((*image)->size());
  EXPECT_TRUE(loop.Run((*image)->Read(GuestOffset(0), bytes.span())).ok());
  DiskImage guest;
  guest.Write(0, bytes.span());
  return guest;
}

// Where the images look for it: beside themselves.
void SaveBacking(InheritedDisk& inherited) {
  Loop loop;
  std::vector<std::byte> bytes(inherited.size());
  ASSERT_TRUE(loop.Run(inherited.Read(GuestOffset(0), bytes)).ok());
  DiskImage file;
  file.Write(0, bytes);
  const TempFile beside("");
  const std::string folder = beside.path().substr(0, beside.path().rfind('/') + 1);
  ASSERT_TRUE(file.SaveFile(folder + "base").ok());
}

void ExpectLeaksAtWorst(const std::string& path) {
  const ToolResult check = QemuCheck(path);
  EXPECT_TRUE(check.status == 0 || check.status == kLeaksOnly) << check.output;
}

class CrashQemuTest : public testing::TestWithParam<Scenario> {};

INSTANTIATE_TEST_SUITE_P(Scenarios, CrashQemuTest, testing::ValuesIn(SomeOf(AllScenarios())),
                         [](const auto& info) { return info.param.name; });

TEST_P(CrashQemuTest, FindsLeaksAtWorstAndReadsWhatWeRead) {
  const Scenario scenario = WithSeed(GetParam(), 7);
  const std::vector<DiskImage> sample = SampleStates(scenario, kSample);
  ASSERT_FALSE(sample.empty());
  InheritedDisk inherited(scenario.inherited_units, scenario.unit_bytes);
  SaveBacking(inherited);
  for (const DiskImage& state : sample) {
    const TempFile image(".qcow2");
    const TempFile ours(".raw");
    ASSERT_TRUE(state.SaveFile(image.path()).ok());
    ASSERT_TRUE(GuestBytes(state, inherited).SaveFile(ours.path()).ok());
    if (scenario.takes_snapshots()) {
      RunTool({"qemu-img", "check", "-q", "-r", "all", image.path()});
    }
    ExpectLeaksAtWorst(image.path());
    QemuImg({"compare", "-f", "qcow2", "-F", "raw", image.path(), ours.path()});
    const uint64_t half = scenario.create.virtual_size / 2;
    QemuIo(image.path(), {absl::StrFormat("write -P 90 %d 20k", half), "write -P 91 512 9k",
                          absl::StrFormat("read -P 90 %d 20k", half), "read -P 91 512 9k"});
    ExpectLeaksAtWorst(image.path());
  }
}

}  // namespace
}  // namespace ringcow
