// The refcounts of an image become wider or narrower, with the power cut at every point and with
// each I/O failing once: whatever is left is sound, and the guest finds what it found before.

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
#include "engine/testing/ignored_fsyncs.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/amend.h"
#include "qcow2/image.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/first_violation.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

struct Change {
  const char* name;
  uint32_t version = 3;
  uint64_t bits = 16;
  AmendOptions amend;
  bool has_snapshot = false;
  uint32_t cluster_bytes = 512;
};
std::ostream& operator<<(std::ostream& out, const Change& change) { return out << change.name; }

const Change kChanges[] = {
    {.name = "Narrowest", .amend = {.refcount_bits = 1}},
    {.name = "Widest", .bits = 1, .amend = {.refcount_bits = 64}},
    {.name = "WithSnapshot", .amend = {.refcount_bits = 2}, .has_snapshot = true},
    {.name = "LargerClusters", .amend = {.refcount_bits = 32}, .cluster_bytes = 4096},
    {.name = "WithUpgrade", .version = 2, .amend = {.version = 3, .refcount_bits = 8}},
    {.name = "WithDowngrade", .bits = 64, .amend = {.version = 2, .refcount_bits = 16}},
};

constexpr uint64_t kBytes = 64 << 10;

class RefcountWidthCrashTest : public testing::TestWithParam<Change> {
 protected:
  void SetUp() override;

  static absl::Status Amend(Disk& disk) {
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
    if (!image.ok()) return image.status();
    const AmendOptions& options = GetParam().amend;
    absl::Status status = disk.loop().Run(PrepareAmend(disk, **image, options));
    status.Update(disk.loop().Run((*image)->Close()));
    image->reset();
    return status.ok() ? disk.loop().Run(FinishAmend(disk, options)) : status;
  }

  // What is wrong with what is left; empty when nothing is.
  std::string Judge(const DiskImage& state);
  std::string Violation(const DiskTrace& trace) {
    return FirstViolation(trace, prepared_, StateBudget(), states_,
                          [this](const DiskImage& state) { return Judge(state); });
  }

  DiskImage prepared_;
  Bytes expected_;
  size_t states_ = 0;
  size_t changed_ = 0;
};
INSTANTIATE_TEST_SUITE_P(All, RefcountWidthCrashTest, testing::ValuesIn(kChanges),
                         testing::PrintToStringParamName());

void RefcountWidthCrashTest::SetUp() {
  const Change& change = GetParam();
  Loop loop;
  SimDisk disk(loop, {.record = false});
  CreateOptions create;
  create.virtual_size = kBytes;
  create.cluster_size = change.cluster_bytes;
  create.version = change.version;
  create.refcount_bits = change.bits;
  ASSERT_EQ(Create(disk, create), absl::OkStatus());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  ASSERT_TRUE(image.ok()) << image.status();
  ImageModel model(loop, kBytes, 1);
  const ImageModel::Workload workload = {.requests = 12, .cluster_bytes = change.cluster_bytes};
  ASSERT_EQ(model.Run(**image, workload), absl::OkStatus());
  if (change.has_snapshot) {
    ASSERT_EQ(loop.Run((*image)->CreateSnapshot(Snapshot())), absl::OkStatus());
    ASSERT_EQ(model.Run(**image, workload), absl::OkStatus());
  }
  expected_.assign(model.bytes().begin(), model.bytes().end());
  ASSERT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
  image->reset();
  prepared_ = disk.content();
}

std::string RefcountWidthCrashTest::Judge(const DiskImage& state) {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, state);
  if (std::string harm = FindingsWithoutLeaks(disk); !harm.empty()) return harm;
  const absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, ReadOnly());
  if (!image.ok()) return image.status().ToString();
  if ((*image)->geometry().refcount_bits() == GetParam().amend.refcount_bits) ++changed_;
  Bytes found(kBytes);
  const absl::Status read = loop.Run((*image)->Read(GuestOffset(0), found));
  if (!read.ok()) return read.ToString();
  return found == expected_ ? "" : "the guest finds something else";
}

TEST_P(RefcountWidthCrashTest, IsTheOldOrTheNew) {
  Loop loop;
  SimDisk disk(loop, {.seed = 3}, prepared_);
  ASSERT_EQ(Amend(disk), absl::OkStatus());
  EXPECT_EQ(Violation(disk.trace()), "");
  EXPECT_GT(changed_, 0U);
  EXPECT_LT(changed_, states_);
  EXPECT_EQ(Findings(disk), "");
}

TEST_P(RefcountWidthCrashTest, EveryRequestFailsOnce) {
  for (const FailureKind kind : kAllFailureKinds) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE(testing::Message() << NameOf(kind) << ", request " << n);
      Loop loop;
      SimDisk disk(loop, {.seed = n, .record = false}, prepared_);
      disk.SetFaults(FailNth(kind, n));
      const absl::Status status = Amend(disk);
      if (disk.requests() <= n) break;
      ASSERT_EQ(Judge(disk.content()), "");
      // And it can be done once more.
      disk.SetFaults(nullptr);
      ASSERT_EQ(Amend(disk), absl::OkStatus()) << status;
      ASSERT_EQ(Judge(disk.content()), "");
    }
  }
}

TEST_P(RefcountWidthCrashTest, ControlIgnoredFsyncsAreFound) {
  Loop loop;
  SimDisk disk(loop, {.seed = 3}, prepared_);
  ASSERT_EQ(Amend(disk), absl::OkStatus());
  EXPECT_NE(Violation(WithIgnoredFsyncs(disk.trace(), [](size_t, Content) { return true; })), "");
}

}  // namespace
}  // namespace ringcow
