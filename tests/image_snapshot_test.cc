// Internal snapshots, made, applied and deleted between random requests: each keeps the bytes it
// had, the image stays clean, and QEMU agrees.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/errno_status.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/raw_image.h"
#include "tests/support/checked.h"
#include "tests/support/exchange.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

Snapshot Named(std::string name) {
  Snapshot snapshot;
  snapshot.name = std::move(name);
  snapshot.date_seconds = 1234567890;
  return snapshot;
}

struct SnapshotRun {
  // The image and its snapshots as they should be.
  std::unique_ptr<Image> image;
  Bytes bytes;
  std::vector<Bytes> snapshots;
  size_t made = 0;

  absl::Status Work(Loop& loop, uint64_t cluster_bytes, uint64_t seed) {
    ImageModel model(loop, std::move(bytes), seed);
    absl::Status status = model.Run(*image, {.requests = 12, .cluster_bytes = cluster_bytes});
    status.Update(model.Compare(*image));
    bytes.assign(model.bytes().begin(), model.bytes().end());
    return status;
  }
  absl::Status Change(Loop& loop, std::mt19937_64& random) {
    if (snapshots.empty() || random() % 2 == 0) {
      snapshots.push_back(bytes);
      return loop.Run(image->CreateSnapshot(Named(absl::StrCat("s", made++))));
    }
    const size_t index = random() % snapshots.size();
    if (random() % 2 == 0) {
      bytes = snapshots[index];
      return loop.Run(image->ApplySnapshot(index));
    }
    snapshots.erase(snapshots.begin() + static_cast<ptrdiff_t>(index));
    return loop.Run(image->DeleteSnapshot(index));
  }
};

CreateOptions RandomCreateOptions(std::mt19937_64& random) {
  CreateOptions options;
  options.virtual_size = (1 << 20) + 512 * (random() % 8);
  options.cluster_size = uint64_t{512} << (random() % 8);
  options.version = random() % 4 == 0 ? 2 : 3;
  options.refcount_bits = options.version == 2 ? 16 : uint64_t{4} << (random() % 5);
  options.extended_l2 = options.version == 3 && options.cluster_size >= 16384 && random() % 2 == 0;
  return options;
}

void RunSnapshots(Disk& disk, const CreateOptions& create, std::mt19937_64& random,
                  SnapshotRun& run) {
  ASSERT_EQ(Create(disk, create), absl::OkStatus());
  run.bytes.resize(create.virtual_size);
  for (int reopened = 0; reopened < 2; ++reopened) {
    OpenOptions options;
    if (random() % 2 == 0) options.l2_cache_bytes = 2 * options.cache_slice_bytes;
    if (random() % 2 == 0) options.refcount_cache_bytes = 2 * options.cache_slice_bytes;
    if (random() % 4 == 0) options.write_back.mode = CacheMode::kWritethrough;
    if (random() % 2 == 0) options.overlap_check = OverlapCheck::kAll;
    options.pass_discard.snapshot = random() % 4 != 0;
    options.pass_discard.other = random() % 2 == 0;
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
    ASSERT_TRUE(image.ok()) << image.status();
    run.image = *std::move(image);
    for (int i = 0; i < 4; ++i) {
      ASSERT_EQ(run.Work(disk.loop(), create.cluster_size, random()), absl::OkStatus());
      ASSERT_EQ(run.Change(disk.loop(), random), absl::OkStatus());
      ASSERT_EQ(run.image->snapshots().size(), run.snapshots.size());
      ASSERT_EQ(Findings(disk), "");
    }
    ASSERT_EQ(run.Work(disk.loop(), create.cluster_size, random()), absl::OkStatus());
    ASSERT_EQ(disk.loop().Run(run.image->Close()), absl::OkStatus());
    run.image.reset();
    ASSERT_EQ(Findings(disk), "");
  }
  // Each snapshot, applied in turn, is what it was.
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  ASSERT_TRUE(image.ok()) << image.status();
  for (size_t i = 0; i < run.snapshots.size(); ++i) {
    ASSERT_EQ(disk.loop().Run((*image)->ApplySnapshot(i)), absl::OkStatus());
    run.bytes = run.snapshots[i];
    EXPECT_EQ(ImageModel(disk.loop(), run.bytes, 1).Compare(**image), absl::OkStatus()) << i;
  }
  ASSERT_EQ(disk.loop().Run((*image)->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk), "");
}

// The parameter is the seed.
class ImageSnapshotTest : public testing::TestWithParam<uint64_t> {};

using OnSimDisk = ImageSnapshotTest;
INSTANTIATE_TEST_SUITE_P(Seed, OnSimDisk, testing::Range<uint64_t>(1, 61),
                         testing::PrintToStringParamName());

TEST_P(OnSimDisk, KeepTheirBytes) {
  std::mt19937_64 random(GetParam());
  Loop loop;
  SimDisk disk(loop, {.seed = GetParam(), .record = false});
  SnapshotRun run;
  RunSnapshots(disk, RandomCreateOptions(random), random, run);
}

using OnFile = ImageSnapshotTest;
INSTANTIATE_TEST_SUITE_P(Seed, OnFile, testing::Range<uint64_t>(101, 107),
                         testing::PrintToStringParamName());

TEST_P(OnFile, QemuAgrees) {
  std::mt19937_64 random(GetParam());
  const TempFile file(".qcow2");
  SnapshotRun run;
  {
    FileHost host(file.path());
    RunSnapshots(host.disk(), RandomCreateOptions(random), random, run);
  }
  if (HasFatalFailure()) return;
  ExpectCleanAndEqual(file.path(), run.bytes);
  // QEMU deletes what we made, and we work with what is left.
  QemuImg({"snapshot", "-c", "qemu's", file.path()});
  if (!run.snapshots.empty()) {
    const ToolResult list = RunTool({"qemu-img", "snapshot", "-l", file.path()});
    const std::string name = list.output.substr(list.output.find(" s") + 1);
    QemuImg({"snapshot", "-d", name.substr(0, name.find(' ')), file.path()});
  }
  FileHost host(file.path());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(host.disk());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ((*image)->snapshots().back().name, "qemu's");
  while (!(*image)->snapshots().empty()) {
    ASSERT_EQ(host.loop().Run((*image)->DeleteSnapshot(0)), absl::OkStatus());
  }
  EXPECT_EQ(ImageModel(host.loop(), run.bytes, 1).Compare(**image), absl::OkStatus());
  EXPECT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(host.disk()), "");
}

TEST(ImageSnapshot, CarryTheVmState) {
  Loop loop;
  SimDisk disk(loop, {.record = false});
  // The backing file has bytes where the state lies.
  DiskImage content;
  content.Write(0, Bytes(1 << 20, std::byte{9}));
  SimDisk backing_disk(loop, {.record = false}, content);
  RawImage backing(backing_disk, /*read_only=*/true);
  CreateOptions create;
  create.virtual_size = 32768;
  create.cluster_size = 512;
  create.backing_file = "base.raw";
  ASSERT_EQ(Create(disk, create), absl::OkStatus());
  OpenOptions options;
  options.backing = &backing;
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
  ASSERT_TRUE(image.ok()) << image.status();
  const auto write = [&](uint64_t position, uint8_t byte) {
    const Bytes state(1000, std::byte{byte});
    return loop.Run((*image)->WriteVmState(position, state));
  };
  const auto holds = [&](uint64_t position, uint8_t byte) {
    Bytes state(1000);
    EXPECT_EQ(loop.Run((*image)->ReadVmState(position, state)), absl::OkStatus());
    return state == Bytes(1000, std::byte{byte});
  };
  EXPECT_TRUE(holds(0, 0));
  ASSERT_EQ(write(100, 1), absl::OkStatus());
  ASSERT_EQ(write(500'000, 2), absl::OkStatus());
  ASSERT_EQ(loop.Run((*image)->CreateSnapshot(Named("s"))), absl::OkStatus());
  ASSERT_EQ(write(100, 3), absl::OkStatus());
  ASSERT_EQ(write(5'000'000, 4), absl::OkStatus());
  EXPECT_TRUE(holds(5'000'000, 4));
  ASSERT_EQ(loop.Run((*image)->ApplySnapshot(0)), absl::OkStatus());
  EXPECT_TRUE(holds(100, 1));
  EXPECT_TRUE(holds(500'000, 2));
  EXPECT_TRUE(holds(5'000'000, 0));
  const absl::Status too_far = loop.Run((*image)->WriteVmState(uint64_t{1} << 62, Bytes(512)));
  EXPECT_EQ(ErrnoOf(too_far), EFBIG) << too_far;
  ASSERT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk), "");
}

TEST(ImageSnapshot, RefcountsTooNarrowAreToldAndNothingChanges) {
  Loop loop;
  SimDisk disk(loop, {.record = false});
  ASSERT_EQ(Create(disk, {.virtual_size = 1 << 20, .cluster_size = 4096, .refcount_bits = 1}),
            absl::OkStatus());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  ASSERT_TRUE(image.ok()) << image.status();
  SnapshotRun run;
  run.image = *std::move(image);
  run.bytes.resize(1 << 20);
  ASSERT_EQ(run.Work(loop, 4096, 1), absl::OkStatus());
  const absl::Status status = loop.Run(run.image->CreateSnapshot(Named("one too many")));
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
  EXPECT_TRUE(run.image->snapshots().empty());
  ASSERT_EQ(run.Work(loop, 4096, 2), absl::OkStatus());
  EXPECT_EQ(loop.Run(run.image->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk), "");
}

}  // namespace
}  // namespace ringcow
