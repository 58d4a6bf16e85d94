// Operations that change an image as a whole, with the power cut at every point: the guest finds
// what was there before or what should be there afterwards, and never something in between. The
// same with each I/O failing once.

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
#include "engine/testing/sanitized.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/image.h"
#include "qcow2/zero_expansion.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/first_violation.h"
#include "tests/explorer/inherited_disk.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kBytes = 96 * 1024;
constexpr uint64_t kSmaller = 40 * 1024 + 512;
constexpr uint64_t kLarger = 200 * 1024;
constexpr uint64_t kUnit = 512;

struct Transition {
  const char* name;
  absl::Status (*run)(Image& image, Loop& loop);
  // What comes behind is given up: each byte of it by itself may be as afterwards, zero, or that of
  // the backing file, before all of it has changed.
  uint64_t kept_bytes = kBytes;
  bool has_backing = false;
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
    // Refcount blocks count nothing any more.
    {"ShrinkToASector",
     [](Image& image, Loop& loop) {
       absl::Status status = loop.Run(image.DeleteSnapshot(0));
       status.Update(loop.Run(image.Resize(kUnit, Preallocation::kOff)));
       return status;
     },
     kUnit},
    {"Empty", [](Image& image, Loop& loop) { return loop.Run(image.Empty()); }, 0},
    {"EmptyOverlay", [](Image& image, Loop& loop) { return loop.Run(image.Empty()); }, 0, true},
    {"ApplySnapshotOfOverlay",
     [](Image& image, Loop& loop) { return loop.Run(image.ApplySnapshot(0)); }, kBytes, true},
    // The backing file is longer, and must not show where the image becomes so long.
    {"GrowOverlay",
     [](Image& image, Loop& loop) { return loop.Run(image.Resize(kLarger, Preallocation::kOff)); },
     kBytes, true},
    {"ShrinkOverlay",
     [](Image& image, Loop& loop) { return loop.Run(image.Resize(kSmaller, Preallocation::kOff)); },
     kSmaller, true},
    {"ExpandZeroesOfSnapshot",
     [](Image& image, Loop& loop) {
       absl::Status status =
           loop.Run(image.WriteZeroes(GuestOffset(0), kBytes, ZeroManner::kKeepSpace));
       status.Update(loop.Run(image.CreateSnapshot(Snapshot())));
       status.Update(loop.Run(image.ExpandSnapshotZeroes()));
       return status;
     },
     0},
    {"ExpandZeroesOfOverlaysSnapshot",
     [](Image& image, Loop& loop) { return loop.Run(image.ExpandSnapshotZeroes()); }, kBytes, true},
    {"ExpandZeroesOfOverlay",
     [](Image& image, Loop& loop) {
       absl::Status status = loop.Run(ExpandZeroClusters(image, nullptr));
       status.Update(loop.Run(image.Flush()));
       return status;
     },
     kBytes, true},
};

constexpr uint64_t kBackingUnits = 300;
static_assert(kBackingUnits * kUnit > kBytes);

OpenOptions Options(bool read_only) {
  static InheritedDisk& backing = *new InheritedDisk(kBackingUnits, kUnit);
  OpenOptions options;
  options.read_only = read_only;
  options.cache_slice_bytes = 512;
  options.backing = &backing;  // of those that have one
  return options;
}

absl::StatusOr<Bytes> ReadAll(Disk& disk) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Image> image, Open(disk, Options(/*read_only=*/true)));
  Bytes bytes(image->size());
  RETURN_IF_ERROR(disk.loop().Run(image->Read(GuestOffset(0), bytes)));
  return bytes;
}

class CrashTransitionTest : public testing::TestWithParam<Transition> {
 protected:
  void SetUp() override;

  // The transition with its n-th request failing, and what is wrong then; false when there was no
  // n-th request.
  bool RunWithFault(FailureKind kind, uint64_t n, std::string& wrong);
  // Cuts the power all along `trace`. What is wrong with the first bad state, if there is one.
  std::string Violation(const DiskTrace& trace) {
    const StateBudget budget =
        kIsSanitized ? StateBudget{.subsets = 4, .samples = 2, .torn = 2} : StateBudget();
    return FirstViolation(trace, prepared_, budget, states_, [this](const DiskImage& state) {
      return Judge(state, states_ % 20 == 0);
    });
  }

  Loop loop_;
  std::unique_ptr<SimDisk> disk_;
  DiskImage prepared_;
  Bytes backing_;  // what is there before anything is written
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
  CreateOptions create = {.virtual_size = kBytes, .cluster_size = 512, .refcount_bits = 64};
  if (GetParam().has_backing) {
    create.backing_file = "base";
    create.backing_format = "raw";
  }
  ASSERT_EQ(Create(disk, create), absl::OkStatus());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, Options(/*read_only=*/false));
  ASSERT_TRUE(image.ok()) << image.status();
  backing_.resize(kBytes);
  ASSERT_EQ(loop.Run((*image)->Read(GuestOffset(0), backing_)), absl::OkStatus());
  ImageModel model(loop, backing_, 1);
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
  absl::StatusOr<std::unique_ptr<Image>> image = Open(*disk_, Options(/*read_only=*/false));
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
    const bool is_given_up =
        i >= GetParam().kept_bytes && (found[i] == std::byte{0} || found[i] == backing_[i]);
    if (found[i] != before_[i] && !is_given_up) return false;
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
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, Options(/*read_only=*/false));
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

bool CrashTransitionTest::RunWithFault(FailureKind kind, uint64_t n, std::string& wrong) {
  Loop loop;
  SimDisk disk(loop, {.seed = n, .record = false}, prepared_);
  Op last_op = Op::kRead;
  const SimDisk::FaultHook fail_nth = FailNth(kind, n);
  disk.SetFaults([&](const Request& request, uint64_t ordinal) {
    last_op = request.op;
    return fail_nth(request, ordinal);
  });
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, Options(/*read_only=*/false));
  absl::Status status = image.status();
  if (status.ok()) status = GetParam().run(**image, loop);
  const bool has_failed = disk.requests() > n;
  disk.SetFaults(nullptr);
  // Space that is not given back is nobody's failure.
  const bool is_told = !status.ok() || last_op == Op::kPunch;
  if (kind == FailureKind::kDeadDisk && has_failed && !is_told) wrong = "nobody was told";
  if (image.ok()) {
    Bytes bytes((*image)->size());
    const bool is_usable = (*image)->failure().ok();
    const absl::Status read = loop.Run((*image)->Read(GuestOffset(0), bytes));
    // What needs a place in a cache full of changes that cannot be written is refused.
    if (read.ok() ? !IsExpected(bytes) : is_usable) wrong = absl::StrCat("live: ", read.ToString());
    const absl::Status closed = loop.Run((*image)->Close());
    if (closed.ok() != is_usable) wrong = absl::StrCat("closing: ", closed.ToString());
    image->reset();
  }
  if (wrong.empty()) wrong = Judge(disk.content(), /*goes_on=*/n % 5 == 0);
  return has_failed;
}

INSTANTIATE_TEST_SUITE_P(All, CrashTransitionTest, testing::ValuesIn(kTransitions),
                         testing::PrintToStringParamName());

TEST_P(CrashTransitionTest, IsBeforeOrAfter) {
  EXPECT_EQ(Violation(disk_->trace()), "");
  EXPECT_GT(states_, 5U);
}

TEST_P(CrashTransitionTest, EveryRequestFailsOnce) {
  for (const FailureKind kind : kAllFailureKinds) {
    std::string wrong;
    uint64_t n = static_cast<uint64_t>(kind) % kFaultStride;
    while (RunWithFault(kind, n, wrong)) {
      ASSERT_EQ(wrong, "") << NameOf(kind) << ", request " << n;
      n += kFaultStride;
    }
    EXPECT_EQ(wrong, "");
    EXPECT_GT(n, 10U);
  }
}

class CrashTransitionControl : public CrashTransitionTest {};
INSTANTIATE_TEST_SUITE_P(All, CrashTransitionControl, testing::ValuesIn(SomeOf(kTransitions)),
                         testing::PrintToStringParamName());

TEST_P(CrashTransitionControl, IgnoredFsyncsAreFound) {
  EXPECT_NE(Violation(WithIgnoredFsyncs(disk_->trace(), [](size_t, Content) { return true; })), "");
}

}  // namespace
}  // namespace ringcow
