// A commit writes to two images, and a power cut ends both at one instant. Whatever is left of the
// one and of the other, both are sound, the guest finds what it found before, and the commit can be
// done again. The same with each I/O of either disk failing once.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "engine/testing/ignored_fsyncs.h"
#include "engine/testing/sanitized.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/commit.h"
#include "qcow2/image.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/two_disks.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

struct Shape {
  const char* name;
  uint64_t base_bytes;
  uint64_t image_bytes;
  uint32_t cluster_bytes = 512;
  bool extended_l2 = false;
};
std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.name; }

const Shape kShapes[] = {
    {"AsLong", 32 << 10, 32 << 10},
    {"Longer", 16 << 10, 40 << 10},
    {"Shorter", 40 << 10, 24 << 10},
    {"LargeClusters", 40 << 10, 40 << 10, 4096},
    {"Subclusters", 80 << 10, 80 << 10, 16384, true},
};

// An image and its backing file, from the destruction of the one to that of the other.
struct Pair {
  std::unique_ptr<Image> base;
  std::unique_ptr<Image> image;
};

// The disk of the image is the first one.
absl::StatusOr<Pair> OpenPair(Disk& disk, Disk& base_disk, bool base_read_only) {
  Pair pair;
  OpenOptions options;
  options.cache_slice_bytes = 512;
  options.read_only = base_read_only;
  ASSIGN_OR_RETURN(pair.base, Open(base_disk, options));
  options.read_only = false;
  options.backing = pair.base.get();
  ASSIGN_OR_RETURN(pair.image, Open(disk, options));
  return pair;
}

absl::Status Close(Loop& loop, Pair pair) {
  absl::Status status = loop.Run(pair.image->Close());
  status.Update(loop.Run(pair.base->Close()));
  return status;
}

absl::Status CommitPair(Loop& loop, const Pair& pair) {
  return loop.Run(CommitLayers(loop, {pair.image.get()}, *pair.base, pair.image.get(), nullptr));
}

class CommitCrashTest : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override;

  // Commits, on two disks that record what happens to them.
  void Commit();
  std::string Violation(const TwoTraces& traces);
  // What is wrong with what is left; empty when nothing is.
  std::string Judge(const TwoDisks& state, bool goes_on) const;
  std::string Live(Loop& loop, Image& image) const;
  // Commits with the n-th request of one of the disks failing, and what is wrong then; false when
  // there was no n-th request.
  bool RunWithFault(FailureKind kind, bool on_base, uint64_t n, std::string& wrong) const;

  Loop loop_;
  TwoDisks prepared_;
  Bytes expected_;
  std::unique_ptr<SimDisk> disk_;
  std::unique_ptr<SimDisk> base_disk_;
  size_t states_ = 0;
};

void CommitCrashTest::SetUp() {
  const Shape& shape = GetParam();
  SimDisk disk(loop_, {.record = false});
  SimDisk base_disk(loop_, {.record = false});
  CreateOptions create = {.virtual_size = shape.base_bytes,
                          .cluster_size = shape.cluster_bytes,
                          .extended_l2 = shape.extended_l2};
  ASSERT_EQ(Create(base_disk, create), absl::OkStatus());
  create.virtual_size = shape.image_bytes;
  create.backing_file = "base";
  create.backing_format = "qcow2";
  ASSERT_EQ(Create(disk, create), absl::OkStatus());
  absl::StatusOr<Pair> pair = OpenPair(disk, base_disk, /*base_read_only=*/false);
  ASSERT_TRUE(pair.ok()) << pair.status();
  const ImageModel::Workload workload = {.requests = 8, .cluster_bytes = shape.cluster_bytes};
  ImageModel base_model(loop_, shape.base_bytes, 1);
  ASSERT_EQ(base_model.Run(*pair->base, workload), absl::OkStatus());
  Bytes bytes(base_model.bytes().begin(), base_model.bytes().end());
  bytes.resize(shape.image_bytes);
  ImageModel model(loop_, std::move(bytes), 2);
  ASSERT_EQ(model.Run(*pair->image, workload), absl::OkStatus());
  expected_.assign(model.bytes().begin(), model.bytes().end());
  ASSERT_EQ(Close(loop_, *std::move(pair)), absl::OkStatus());
  prepared_ = {disk.content(), base_disk.content()};
}

void CommitCrashTest::Commit() {
  disk_ = std::make_unique<SimDisk>(loop_, SimDisk::Options{.seed = 3}, prepared_.first);
  base_disk_ = std::make_unique<SimDisk>(loop_, SimDisk::Options{.name = "base", .seed = 4},
                                         prepared_.second);
  SimDisk::ShareTime(*disk_, *base_disk_);
  absl::StatusOr<Pair> pair = OpenPair(*disk_, *base_disk_, /*base_read_only=*/false);
  ASSERT_TRUE(pair.ok()) << pair.status();
  ASSERT_EQ(CommitPair(loop_, *pair), absl::OkStatus());
  ASSERT_EQ(ringcow::Close(loop_, *std::move(pair)), absl::OkStatus());
}

std::string CommitCrashTest::Live(Loop& loop, Image& image) const {
  Bytes found(expected_.size());
  const absl::Status read = loop.Run(image.Read(GuestOffset(0), found));
  if (!read.ok()) return read.ToString();
  const auto differs = std::ranges::mismatch(found, expected_).in1;
  if (differs == found.end()) return "";
  return absl::StrCat("the guest finds something else at byte ", differs - found.begin());
}

std::string CommitCrashTest::Judge(const TwoDisks& state, bool goes_on) const {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, state.first);
  SimDisk base_disk(loop, {.latency = 1, .record = false}, state.second);
  for (SimDisk* each : {&disk, &base_disk}) {
    if (std::string harm = FindingsWithoutLeaks(*each); !harm.empty()) return harm;
  }
  absl::StatusOr<Pair> pair = OpenPair(disk, base_disk, /*base_read_only=*/!goes_on);
  if (!pair.ok()) return pair.status().ToString();
  if (std::string wrong = Live(loop, *pair->image); !wrong.empty() || !goes_on) return wrong;
  const absl::Status again = CommitPair(loop, *pair);
  if (!again.ok()) return absl::StrCat("once more: ", again.ToString());
  if (std::string wrong = Live(loop, *pair->base); !wrong.empty()) {
    return absl::StrCat("once more, in the backing file: ", wrong);
  }
  const absl::Status closed = Close(loop, *std::move(pair));
  if (!closed.ok()) return closed.ToString();
  return absl::StrCat(FindingsWithoutLeaks(disk), FindingsWithoutLeaks(base_disk));
}

std::string CommitCrashTest::Violation(const TwoTraces& traces) {
  const StateBudget budget = {.subsets = 16, .samples = 4, .torn = 4};
  return FirstViolationOfTwo(
      traces, prepared_, budget, states_,
      {.made = [](size_t) { return size_t{0}; },
       .judge = [this](const TwoDisks& state,
                       size_t) { return Judge(state, /*goes_on=*/states_ % 20 == 0); }});
}

bool CommitCrashTest::RunWithFault(FailureKind kind, bool on_base, uint64_t n,
                                   std::string& wrong) const {
  Loop loop;
  SimDisk disk(loop, {.seed = n, .record = false}, prepared_.first);
  SimDisk base_disk(loop, {.name = "base", .seed = n + 1, .record = false}, prepared_.second);
  SimDisk& failing = on_base ? base_disk : disk;
  failing.SetFaults(FailNth(kind, n));
  absl::StatusOr<Pair> pair = OpenPair(disk, base_disk, /*base_read_only=*/false);
  if (pair.ok()) (void)CommitPair(loop, *pair);  // the image says how far it has come
  const bool has_failed = failing.requests() > n;
  failing.SetFaults(nullptr);
  if (pair.ok()) {
    const bool is_usable = pair->image->failure().ok() && pair->base->failure().ok();
    if (is_usable) wrong = Live(loop, *pair->image);
    const absl::Status closed = Close(loop, *std::move(pair));
    if (closed.ok() != is_usable) wrong = absl::StrCat("closing: ", closed.ToString());
  }
  if (wrong.empty()) wrong = Judge({disk.content(), base_disk.content()}, /*goes_on=*/n % 5 == 0);
  return has_failed;
}

INSTANTIATE_TEST_SUITE_P(All, CommitCrashTest, testing::ValuesIn(kShapes),
                         testing::PrintToStringParamName());

TEST_P(CommitCrashTest, TheGuestFindsWhatWasThere) {
  ASSERT_NO_FATAL_FAILURE(Commit());
  EXPECT_EQ(Violation({disk_->trace(), base_disk_->trace()}), "");
  EXPECT_GT(states_, 50U);
  EXPECT_EQ(Findings(*disk_), "");
  EXPECT_EQ(Findings(*base_disk_), "");
}

TEST_P(CommitCrashTest, ControlIgnoredFsyncsOfTheBackingFileAreFound) {
  ASSERT_NO_FATAL_FAILURE(Commit());
  const DiskTrace lied =
      WithIgnoredFsyncs(base_disk_->trace(), [](size_t, Content) { return true; });
  EXPECT_NE(Violation({disk_->trace(), lied}), "");
}

TEST_P(CommitCrashTest, EveryRequestFailsOnce) {
  for (const FailureKind kind : kAllFailureKinds) {
    for (const bool on_base : {false, true}) {
      std::string wrong;
      uint64_t n = static_cast<uint64_t>(kind) % kFaultStride;
      while (RunWithFault(kind, on_base, n, wrong)) {
        ASSERT_EQ(wrong, "") << NameOf(kind) << ", request " << n << ", on base " << on_base;
        n += kFaultStride;
      }
      EXPECT_EQ(wrong, "");
      EXPECT_GT(n, 5U);
    }
  }
}

}  // namespace
}  // namespace ringcow
