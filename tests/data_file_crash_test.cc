// An image with an external data file lies on two disks, and a power cut ends both at one instant,
// each with its own pending writes. Whatever is left of the one and of the other, the image is
// sound, the guest finds what it was promised, and a raw data file reads as the guest does. The
// same with each I/O of either disk failing once.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/scope.h"
#include "engine/testing/ignored_fsyncs.h"
#include "engine/testing/sanitized.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/header_layout.h"
#include "qcow2/image.h"
#include "tests/explorer/crash_states.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/operation.h"
#include "tests/explorer/scenario.h"
#include "tests/explorer/script.h"
#include "tests/explorer/two_disks.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"
#include "tests/support/stamped_guest.h"

namespace ringcow {
namespace {

Scenario Base(std::string name, bool raw) {
  Scenario scenario;
  scenario.name = std::move(name);
  scenario.create = {.virtual_size = uint64_t{64} << 10,
                     .cluster_size = 2048,
                     .data_file = "data",
                     .data_file_raw = raw};
  scenario.open.cache_slice_bytes = 512;
  scenario.steps = 8;
  scenario.mix = {{&kWrite, 8},     {&kWriteLarge, 1}, {&kZeroKeep, 2},
                  {&kZeroUnmap, 2}, {&kDiscard, 2},    {&kFlush, 3}};
  return scenario;
}

std::vector<Scenario> Scenarios() {
  std::vector<Scenario> scenarios;
  for (const bool raw : {false, true}) {
    const std::string suffix = raw ? "Raw" : "";
    scenarios.push_back(Base("Data" + suffix, raw));
    // Nothing is promised, but tables are driven out all the time.
    scenarios.push_back(Base("Evicting" + suffix, raw));
    scenarios.back().mix = {{&kWrite, 8}, {&kDiscard, 2}, {&kRead, 4}};
    scenarios.back().create.virtual_size = uint64_t{256} << 10;
    scenarios.back().create.cluster_size = 512;
    scenarios.back().open.l2_cache_bytes = 1024;
    scenarios.back().filled_units = scenarios.back().units();
    scenarios.back().steps = 16;
    scenarios.push_back(Base("Subclusters" + suffix, raw));
    scenarios.back().create.cluster_size = 16384;
    scenarios.back().create.extended_l2 = true;
    scenarios.push_back(Base("NoFallocate" + suffix, raw));
    scenarios.back().can_allocate = false;
  }
  // QEMU's tables do not show all of a raw file: not where there are subclusters, and old images
  // have no tables at all.
  scenarios.push_back(Base("HiddenSubclustersRaw", true));
  scenarios.back().create.cluster_size = 16384;
  scenarios.back().create.extended_l2 = true;
  scenarios.push_back(Base("HiddenClustersRaw", true));
  // What is shown and what is hidden in one write.
  scenarios.push_back(scenarios[scenarios.size() - 2]);
  scenarios.back().name = "HiddenInPartRaw";
  scenarios.back().mix = {{&kWrite, 4}, {&kWriteLarge, 6}, {&kFlush, 2}};
  // Workers meet in clusters.
  for (auto hidden = scenarios.end() - 3; hidden != scenarios.end(); ++hidden) {
    hidden->group_units = 12;
  }
  return scenarios;
}

// Zeroes that metadata tells of, so that there are L2 tables.
void Fill(Disk& disk, Disk& data, uint64_t bytes) {
  OpenOptions options;
  options.data_file = &data;
  const absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
  ASSERT_TRUE(image.ok()) << image.status();
  Loop& loop = disk.loop();
  EXPECT_EQ(loop.Run((*image)->WriteZeroes(GuestOffset(0), bytes, ZeroManner::kMayUnmap)),
            absl::OkStatus());
  EXPECT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
}

uint64_t Get64(const DiskImage& image, uint64_t at) {
  std::vector<std::byte> bytes(sizeof(uint64_t));
  image.Read(at, bytes);
  return LoadBe<uint64_t>(bytes.data());
}

// Makes the tables show less of the data file.
void Hide(const Scenario& scenario, DiskImage& image) {
  constexpr uint64_t kOffset = 0x00fffffffffffe00;
  const std::vector<std::byte> nothing(sizeof(uint64_t));
  const uint64_t l1 = Get64(image, offsetof(HeaderOnDisk, l1_table_offset));
  if (!scenario.create.extended_l2) {
    image.Write(l1, nothing);  // there is one table
    return;
  }
  const uint64_t l2 = Get64(image, l1) & kOffset;
  for (uint64_t at = l2; at < l2 + scenario.create.cluster_size; at += 16) {
    image.Write(at + 8, nothing);
  }
}

// What the data file holds where nothing is allocated is not known, unless it is raw.
TwoDisks PrepareBoth(const Scenario& scenario) {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false});
  SimDisk data(loop, {.latency = 1, .record = false});
  EXPECT_EQ(loop.Run(CreateImage(disk, scenario.create, &data)), absl::OkStatus());
  if (scenario.filled_units > 0) Fill(disk, data, scenario.filled_units * scenario.unit_bytes);
  TwoDisks images{disk.content(), data.content()};
  if (absl::StartsWith(scenario.name, "Hidden")) Hide(scenario, images.first);
  if (!scenario.create.data_file_raw) {
    images.second.Write(0, std::vector<std::byte>(images.second.size(), std::byte{0xee}));
  }
  return images;
}

// The scenario on its two disks.
class DataFileRun {
 public:
  DataFileRun(const Scenario& scenario, const TwoDisks& prepared)
      : scenario_(scenario),
        disk_(loop_, {.seed = scenario.seed, .stragglers = 12}, prepared.first),
        data_(loop_, {.name = "data", .seed = scenario.seed + 1, .stragglers = 12},
              prepared.second),
        guest_(disk_.trace(), scenario.units(), scenario.unit_bytes) {
    SimDisk::ShareTime(disk_, data_);
    if (!scenario.can_allocate) data_.SetUnsupported({Op::kAllocate, Op::kWriteZeroes, Op::kPunch});
  }

  void OpenAndWork() {
    auto image = loop_.Run(Image::Open(disk_, Options()));
    opened_ = image.status();
    if (!opened_.ok()) return;
    image_ = *std::move(image);
    std::vector<Script> steps(scenario_.workers);
    for (const Step& step : MakeScript(scenario_)) steps[step.worker].push_back(step);
    Scope workers(loop_);
    for (Script& script : steps) workers.Spawn(Work(std::move(script)));
    (void)loop_.Run(workers.Join());
  }
  void Close() {
    if (image_ == nullptr) return;
    (void)loop_.Run(guest_.Close(*image_));
    image_.reset();
  }

  OpenOptions Options() {
    OpenOptions options = scenario_.open;
    options.data_file = &data_;
    return options;
  }
  Loop& loop() { return loop_; }
  SimDisk& disk() { return disk_; }
  SimDisk& data() { return data_; }
  StampedGuest& guest() { return guest_; }
  Image* image() { return image_.get(); }
  const absl::Status& opened() const { return opened_; }

 private:
  Task<absl::Status> Work(Script script) {
    for (const Step& step : script) {
      (void)co_await step.operation->run(*image_, guest_, step.range);  // the guest remembers
    }
    co_return absl::OkStatus();
  }

  const Scenario& scenario_;
  Loop loop_;
  SimDisk disk_;
  SimDisk data_;
  StampedGuest guest_;
  absl::Status opened_;
  std::unique_ptr<Image> image_;
};

std::string RawDifference(const DiskImage& data, const std::vector<std::byte>& bytes) {
  std::vector<std::byte> found(bytes.size());
  data.Read(0, found);
  const auto [at, in_raw] = std::mismatch(bytes.begin(), bytes.end(), found.begin());
  if (at == bytes.end()) return "";
  return absl::StrCat("the raw data file differs from the disk at byte ", at - bytes.begin());
}

// Goes on with a state that is good, and reads as `bytes`.
std::string GoOn(Disk& disk, SimDisk& data, const Scenario& scenario,
                 std::vector<std::byte> bytes) {
  OpenOptions options = scenario.open;
  options.data_file = &data;
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
  if (!image.ok()) return image.status().ToString();
  ImageModel model(disk.loop(), std::move(bytes), 1);
  absl::Status status = model.Run(
      **image,
      {.workers = 2, .requests = 8, .cluster_bytes = scenario.create.cluster_size, .flushes = 15});
  status.Update(model.Compare(**image));
  status.Update(disk.loop().Run((*image)->Close()));
  if (!status.ok()) return absl::StrCat("going on: ", status.ToString());
  if (scenario.create.data_file_raw) {
    std::string wrong = RawDifference(data.content(), {model.bytes().begin(), model.bytes().end()});
    if (!wrong.empty()) return absl::StrCat("going on: ", wrong);
  }
  return FindingsWithoutLeaks(disk);
}

std::string Judge(const Scenario& scenario, const StampedGuest& guest, const TwoDisks& state,
                  size_t position, bool goes_on) {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, state.first);
  SimDisk data(loop, {.latency = 1, .record = false}, state.second);
  if (std::string harm = FindingsWithoutLeaks(disk); !harm.empty()) return harm;
  std::vector<std::byte> bytes(guest.disk_bytes());
  {
    OpenOptions options = ReadOnly();
    options.data_file = &data;
    const absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
    if (!image.ok()) return image.status().ToString();
    const absl::Status read = loop.Run((*image)->Read(GuestOffset(0), bytes));
    if (!read.ok()) return read.ToString();
  }
  if (std::string wrong = guest.CheckAfterCrash(bytes, position); !wrong.empty()) return wrong;
  if (scenario.create.data_file_raw) {
    if (std::string wrong = RawDifference(state.second, bytes); !wrong.empty()) return wrong;
  }
  return goes_on ? GoOn(disk, data, scenario, bytes) : "";
}

// Cuts the power all along the traces, which have the same positions. What is wrong with the first
// bad state, if there is one.
std::string FirstViolation(const Scenario& scenario, const StampedGuest& guest,
                           const TwoDisks& prepared, const TwoTraces& traces, size_t& states) {
  const StateBudget budget = kIsSanitized ? StateBudget{.subsets = 4, .samples = 2, .torn = 2}
                                          : StateBudget{.subsets = 16, .samples = 4, .torn = 4};
  return FirstViolationOfTwo(
      traces, prepared, budget, states,
      {.made = [&](size_t position) { return guest.FlushedBefore(position); },
       .judge =
           [&](const TwoDisks& state, size_t position) {
             return Judge(scenario, guest, state, position, /*goes_on=*/states % 20 == 0);
           }});
}

class DataFileCrashTest : public testing::TestWithParam<Scenario> {};
INSTANTIATE_TEST_SUITE_P(Scenarios, DataFileCrashTest, testing::ValuesIn(Scenarios()),
                         [](const auto& info) { return info.param.name; });

TEST_P(DataFileCrashTest, LeavesWhatWasPromised) {
  const TwoDisks prepared = PrepareBoth(GetParam());
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    const Scenario scenario = WithSeed(GetParam(), seed);
    SCOPED_TRACE(testing::Message() << scenario);
    DataFileRun run(scenario, prepared);
    run.OpenAndWork();
    run.Close();
    ASSERT_EQ(run.guest().failed(), 0U);
    EXPECT_EQ(run.guest().misread(), "");
    ASSERT_EQ(run.disk().trace().size(), run.data().trace().size());
    size_t states = 0;
    EXPECT_EQ(FirstViolation(scenario, run.guest(), prepared,
                             {run.disk().trace(), run.data().trace()}, states),
              "");
    EXPECT_GT(states, 50U);
  }
}

// Without a flush nothing is promised: what is found is the other order, of the data before the
// tables that show it. A raw file has none (its tables show all of it from the beginning), so that
// without a flush there is nothing to be found.
std::vector<Scenario> WithFsyncsThatCount() {
  std::vector<Scenario> scenarios = Scenarios();
  std::erase_if(scenarios, [](const Scenario& scenario) { return scenario.name == "EvictingRaw"; });
  return scenarios;
}

using DataFileControl = DataFileCrashTest;
INSTANTIATE_TEST_SUITE_P(Scenarios, DataFileControl, testing::ValuesIn(WithFsyncsThatCount()),
                         [](const auto& info) { return info.param.name; });

TEST_P(DataFileControl, ForgottenFsyncsOfTheDataFileAreFound) {
  const TwoDisks prepared = PrepareBoth(GetParam());
  std::string found;
  for (uint64_t seed = 1; seed <= 8 && found.empty(); ++seed) {
    const Scenario scenario = WithSeed(GetParam(), seed);
    DataFileRun run(scenario, prepared);
    run.OpenAndWork();
    size_t states = 0;
    const DiskTrace lied =
        WithIgnoredFsyncs(run.data().trace(), [](size_t, Content) { return true; });
    found = FirstViolation(scenario, run.guest(), prepared, {run.disk().trace(), lied}, states);
  }
  EXPECT_NE(found, "");
}

void ExpectIntact(DataFileRun& run, const Scenario& scenario) {
  const TwoDisks left{run.disk().content(), run.data().content()};
  EXPECT_EQ(Judge(scenario, run.guest(), left, run.disk().trace().size(), /*goes_on=*/false), "");
}

// Runs the scenario with the n-th request of one of its disks failing; how many that one took.
uint64_t RunWithFault(const Scenario& scenario, const TwoDisks& prepared, FailureKind kind,
                      bool on_data, uint64_t n) {
  DataFileRun run(scenario, prepared);
  SimDisk& failing = on_data ? run.data() : run.disk();
  Op failed_op = Op::kRead;
  const SimDisk::FaultHook fail_nth = FailNth(kind, n);
  failing.SetFaults([&](const Request& request, uint64_t ordinal) {
    if (ordinal == n) failed_op = request.op;
    return fail_nth(request, ordinal);
  });
  run.OpenAndWork();
  const uint64_t requests = failing.requests();
  failing.SetFaults(nullptr);
  if (run.opened().ok()) {
    const bool failed_sync = failed_op == Op::kFdatasync && kind != FailureKind::kShort &&
                             kind != FailureKind::kCancelled;
    if (failed_sync) EXPECT_FALSE(run.image()->failure().ok()) << "a failed fsync was forgotten";
    const bool is_usable = run.image()->failure().ok();
    const std::string wrong = run.guest().CheckLive(run.loop(), *run.image());
    if (is_usable) EXPECT_EQ(wrong, "");
    EXPECT_EQ(run.loop().Run(run.guest().Flush(*run.image())).ok(), is_usable);
    run.Close();
  }
  ExpectIntact(run, scenario);
  return requests;
}

TEST_P(DataFileCrashTest, EveryRequestFailsOnce) {
  const TwoDisks prepared = PrepareBoth(GetParam());
  uint64_t seed = 0;
  for (const FailureKind kind : kAllFailureKinds) {
    for (const bool on_data : {false, true}) {
      Scenario scenario = WithSeed(GetParam(), ++seed);
      scenario.steps = 5;
      SCOPED_TRACE(testing::Message() << scenario << NameOf(kind) << on_data);
      uint64_t n = seed % kFaultStride;
      for (; n < RunWithFault(scenario, prepared, kind, on_data, n); n += kFaultStride) {
        if (HasFailure()) FAIL() << "request " << n;
      }
      EXPECT_GT(n, 5U);
    }
  }
}

}  // namespace
}  // namespace ringcow
