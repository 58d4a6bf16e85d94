// Operations that change an image as a whole, with the power cut at every point: the guest finds
// what was there before or what should be there afterwards, and never something in between.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "engine/testing/ignored_fsyncs.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/image.h"
#include "tests/explorer/first_violation.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kBytes = 96 * 1024;
constexpr uint64_t kSmaller = 40 * 1024 + 512;
constexpr uint64_t kLarger = 200 * 1024;

struct Transition {
  const char* name;
  absl::Status (*run)(Image& image, Loop& loop);
  // What was cut off may be gone before the new size counts.
  uint64_t kept_bytes = kBytes;
};
std::ostream& operator<<(std::ostream& out, const Transition& transition) {
  return out << transition.name;
}

const Transition kTransitions[] = {
    {"CreateSnapshot",
     [](Image& image, Loop& loop) { return loop.Run(image.CreateSnapshot(Snapshot())); }},
    {"ApplySnapshot", [](Image& image, Loop& loop) { return loop.Run(image.ApplySnapshot(0)); }},
    {"DeleteSnapshot", [](Image& image, Loop& loop) { return loop.Run(image.DeleteSnapshot(0)); }},
    {"Grow",
     [](Image& image, Loop& loop) { return loop.Run(image.Resize(kLarger, Preallocation::kOff)); }},
    {"GrowPreallocated",
     [](Image& image, Loop& loop) {
       return loop.Run(image.Resize(kLarger, Preallocation::kMetadata));
     }},
    {"Shrink",
     [](Image& image, Loop& loop) { return loop.Run(image.Resize(kSmaller, Preallocation::kOff)); },
     kSmaller},
};

absl::StatusOr<Bytes> ReadAll(Disk& disk) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Image> image, Open(disk, ReadOnly()));
  Bytes bytes(image->size());
  RETURN_IF_ERROR(disk.loop().Run(image->Read(GuestOffset(0), bytes)));
  return bytes;
}

class CrashTransitionTest : public testing::TestWithParam<Transition> {
 protected:
  void SetUp() override;

  // Cuts the power all along `trace`. What is wrong with the first bad state, if there is one.
  std::string Violation(const DiskTrace& trace) {
    return FirstViolation(trace, prepared_, StateBudget(), states_, [this](const DiskImage& state) {
      return Judge(state, states_ % 20 == 0);
    });
  }

  Loop loop_;
  std::unique_ptr<SimDisk> disk_;
  DiskImage prepared_;
  Bytes snapshot_;
  Bytes before_;
  Bytes after_;
  size_t states_ = 0;

 private:
  void Prepare();
  std::string Judge(const DiskImage& state, bool goes_on);
  bool IsExpected(const Bytes& found) const;
};

// A snapshot that shares some clusters with the active state, and some of each alone.
void CrashTransitionTest::Prepare() {
  Loop loop;
  SimDisk disk(loop, {.record = false});
  ASSERT_EQ(Create(disk, {.virtual_size = kBytes, .cluster_size = 512, .refcount_bits = 64}),
            absl::OkStatus());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  ASSERT_TRUE(image.ok()) << image.status();
  ImageModel model(loop, kBytes, 1);
  const ImageModel::Workload workload = {.requests = 16, .cluster_bytes = 512};
  ASSERT_EQ(model.Run(**image, workload), absl::OkStatus());
  snapshot_.assign(model.bytes().begin(), model.bytes().end());
  ASSERT_EQ(loop.Run((*image)->CreateSnapshot(Snapshot())), absl::OkStatus());
  ASSERT_EQ(model.Run(**image, workload), absl::OkStatus());
  ASSERT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
  before_.assign(model.bytes().begin(), model.bytes().end());
  prepared_ = disk.content();
}

void CrashTransitionTest::SetUp() {
  ASSERT_NO_FATAL_FAILURE(Prepare());
  disk_ = std::make_unique<SimDisk>(loop_, SimDisk::Options{.seed = 3}, prepared_);
  OpenOptions options;
  options.cache_slice_bytes = 512;
  absl::StatusOr<std::unique_ptr<Image>> image = Open(*disk_, options);
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_EQ(GetParam().run(**image, loop_), absl::OkStatus());
  ASSERT_EQ(loop_.Run((*image)->Close()), absl::OkStatus());
  const absl::StatusOr<Bytes> after = ReadAll(*disk_);
  ASSERT_TRUE(after.ok()) << after.status();
  after_ = *after;
  EXPECT_EQ(Findings(*disk_), "");
}

bool CrashTransitionTest::IsExpected(const Bytes& found) const {
  if (found == before_ || found == after_) return true;
  if (found.size() != before_.size()) return false;
  for (uint64_t i = 0; i < found.size(); ++i) {
    const bool may_be_gone = i >= GetParam().kept_bytes && found[i] == std::byte{0};
    if (found[i] != before_[i] && !may_be_gone) return false;
  }
  return true;
}

std::string CrashTransitionTest::Judge(const DiskImage& state, bool goes_on) {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, state);
  if (std::string harm = FindingsExceptHarmlessCopied(disk); !harm.empty()) return harm;
  const absl::StatusOr<Bytes> found = ReadAll(disk);
  if (!found.ok()) return found.status().ToString();
  if (!IsExpected(*found)) return "the guest finds neither what was before nor what comes after";
  if (!goes_on) return "";
  // The snapshot is whole, if there is one, and the image can be worked with.
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  if (!image.ok()) return image.status().ToString();
  if (!(*image)->snapshots().empty()) {
    absl::Status status = loop.Run((*image)->ApplySnapshot(0));
    status.Update(ImageModel(loop, snapshot_, 1).Compare(**image));
    if (!status.ok()) return absl::StrCat("applying the snapshot: ", status.ToString());
  }
  ImageModel model(loop, (*image)->size(), 2);
  absl::Status status =
      loop.Run((*image)->WriteZeroes(GuestOffset(0), (*image)->size(), ZeroManner::kMayUnmap));
  status.Update(model.Run(**image, {.requests = 6, .cluster_bytes = 512}));
  status.Update(model.Compare(**image));
  status.Update(loop.Run((*image)->Close()));
  if (!status.ok()) return absl::StrCat("going on: ", status.ToString());
  return FindingsExceptHarmlessCopied(disk);
}

INSTANTIATE_TEST_SUITE_P(All, CrashTransitionTest, testing::ValuesIn(kTransitions),
                         testing::PrintToStringParamName());

TEST_P(CrashTransitionTest, IsBeforeOrAfter) {
  EXPECT_EQ(Violation(disk_->trace()), "");
  EXPECT_GT(states_, 5U);
}

TEST_P(CrashTransitionTest, ControlIgnoredFsyncsAreFound) {
  EXPECT_NE(Violation(WithIgnoredFsyncs(disk_->trace(), [](size_t, Content) { return true; })), "");
}

}  // namespace
}  // namespace ringcow
