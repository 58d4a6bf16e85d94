// Random requests to an image, in everything that can be set about one, compared with an array of
// bytes: on a simulated disk, where the seed decides in which order requests complete, and on
// files.

#include "tests/support/image_model.h"

#include <algorithm>
#include <array>
#include <memory>
#include <ostream>
#include <random>
#include <utility>
#include <vector>

#include "engine/loop.h"
#include "engine/testing/sanitized.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/tools.h"
#include "tests/support/work_ahead.h"

namespace ringcow {
namespace {

struct ImageSetup {
  CreateOptions create;
  OpenOptions open;
  uint32_t disk_alignment = 512;
  bool can_allocate = true;
};

std::ostream& operator<<(std::ostream& out, const ImageSetup& setup) {
  const WriteBackOptions& write_back = setup.open.write_back;
  return out << "v" << setup.create.version << ", " << setup.create.virtual_size << " bytes, "
             << setup.create.cluster_size << "-byte clusters, " << setup.create.refcount_bits
             << "-bit refcounts, extended L2 " << setup.create.extended_l2 << ", "
             << CompressionTypeName(setup.create.compression_type).data() << ", preallocation "
             << PreallocationName(setup.create.preallocation).data() << ", caches of "
             << setup.open.l2_cache_bytes << " and " << setup.open.refcount_cache_bytes
             << " in slices of " << setup.open.cache_slice_bytes
             << (write_back.mode == CacheMode::kWriteback ? ", writeback" : ", writethrough")
             << ", plan form " << static_cast<int>(write_back.form) << ", "
             << WorkAheadOf(setup.open) << ", copy on read " << setup.open.copy_on_read
             << ", alignment " << setup.disk_alignment << ", fallocate " << setup.can_allocate;
}

template <typename T, size_t n>
T OneOf(const std::array<T, n>& values, std::mt19937_64& random) {
  return values[random() % n];
}

// Small clusters most of the time: they make many tables of little data.
CreateOptions RandomCreateOptions(std::mt19937_64& random) {
  CreateOptions options;
  options.cluster_size =
      OneOf(std::array<uint64_t, 8>{512, 512, 512, 1024, 4096, 4096, 65536, 1 << 20}, random);
  options.version = random() % 4 == 0 ? 2 : 3;
  options.refcount_bits = options.version == 2
                              ? 16
                              : OneOf(std::array<uint64_t, 8>{1, 2, 4, 8, 16, 32, 64, 64}, random);
  options.extended_l2 = options.version == 3 && random() % 4 == 0;
  if (options.version == 3 && random() % 2 == 0) options.compression_type = CompressionType::kZstd;
  if (options.extended_l2) {
    options.cluster_size = OneOf(std::array<uint64_t, 4>{16384, 16384, 65536, 1 << 20}, random);
  }
  // 2 MiB in clusters of 512 bytes with refcounts of 64 bits fill a refcount table of one cluster.
  options.virtual_size = std::min<uint64_t>(
      std::max<uint64_t>(96 * options.cluster_size, (1 + random() % 10) << 18), 12 << 20);
  // Mostly it ends inside a cluster.
  options.virtual_size += random() % 8 * 512;
  if (random() % 8 == 0) options.preallocation = Preallocation::kMetadata;
  return options;
}

OpenOptions RandomOpenOptions(std::mt19937_64& random) {
  OpenOptions options;
  options.write_back.form =
      OneOf(std::array{PlanForm::kAuto, PlanForm::kChain, PlanForm::kStages}, random);
  options.cache_slice_bytes = OneOf(std::array<uint32_t, 3>{512, 4096, 4096}, random);
  if (random() % 4 == 0) options.write_back.mode = CacheMode::kWritethrough;
  // Two slices are the least that can be: nearly every request evicts a table.
  if (random() % 2 == 0) options.l2_cache_bytes = 2 * uint64_t{options.cache_slice_bytes};
  if (random() % 2 == 0) options.refcount_cache_bytes = 2 * uint64_t{options.cache_slice_bytes};
  SwitchWorkAhead(options, random);
  options.copy_on_read = random() % 4 == 0;
  return options;
}

ImageSetup RandomSetup(std::mt19937_64& random) {
  return {.create = RandomCreateOptions(random),
          .open = RandomOpenOptions(random),
          .disk_alignment = random() % 3 == 0 ? 4096U : 512U,
          .can_allocate = random() % 3 != 0};
}

// Opens, writes and closes the image a few times, with other options each time. It reads as `bytes`
// when it is new.
void RunModel(Disk& disk, const ImageSetup& setup, std::vector<std::byte> bytes, size_t requests,
              std::mt19937_64& random) {
  ASSERT_EQ(Create(disk, setup.create), absl::OkStatus());
  ImageModel model(disk.loop(), std::move(bytes), random());
  OpenOptions options = setup.open;
  const bool keeps_discarded = setup.create.version < 3 && setup.open.backing != nullptr;
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
    ASSERT_TRUE(image.ok()) << image.status();
    ASSERT_EQ(model.Run(**image, {.workers = 1 + random() % 6,
                                  .requests = requests,
                                  .cluster_bytes = setup.create.cluster_size,
                                  .large_bytes = random() % 2 == 0 ? uint64_t{1} << 20 : 0,
                                  .flushes = static_cast<uint32_t>(random() % 12),
                                  .compressed = keeps_discarded || random() % 2 == 0 ? 0U : 15U,
                                  .discards_zero = !keeps_discarded}),
              absl::OkStatus());
    ASSERT_EQ(model.Compare(**image), absl::OkStatus());
    ASSERT_EQ(disk.loop().Run((*image)->Close()), absl::OkStatus());
    image->reset();
    ASSERT_EQ(Findings(disk), "");
    options = RandomOpenOptions(random);
    options.backing = setup.open.backing;
  }
  options.read_only = true;
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(model.Compare(**image), absl::OkStatus());
}

void RunModel(Disk& disk, const ImageSetup& setup, size_t requests, std::mt19937_64& random) {
  RunModel(disk, setup, std::vector<std::byte>(setup.create.virtual_size), requests, random);
}

// The parameter is the seed: --gtest_filter replays a failure.
class ImageModelTest : public testing::TestWithParam<uint64_t> {};

using OnSimDisk = ImageModelTest;
INSTANTIATE_TEST_SUITE_P(Seed, OnSimDisk, testing::Range<uint64_t>(1, kIsSanitized ? 31 : 101),
                         testing::PrintToStringParamName());

TEST_P(OnSimDisk, ReadsWhatWasWritten) {
  std::mt19937_64 random(GetParam());
  const ImageSetup setup = RandomSetup(random);
  SCOPED_TRACE(testing::Message() << setup);
  Loop loop;
  SimDisk disk(loop, {.seed = GetParam(), .alignment = setup.disk_alignment, .record = false});
  if (!setup.can_allocate) disk.SetUnsupported({Op::kAllocate, Op::kWriteZeroes, Op::kPunch});
  RunModel(disk, setup, setup.create.cluster_size > 65536 ? 10 : 40, random);
  EXPECT_EQ(disk.changed_under_way(), 0U);
}

// The backing file is shorter or longer than the image, and has zeroes and data.
using OnBackingFile = ImageModelTest;
INSTANTIATE_TEST_SUITE_P(Seed, OnBackingFile, testing::Range<uint64_t>(1, kIsSanitized ? 16 : 51),
                         testing::PrintToStringParamName());

TEST_P(OnBackingFile, ReadsWhatWasWritten) {
  std::mt19937_64 random(GetParam());
  Loop loop;
  SimDisk backing_disk(loop, {.seed = GetParam(), .record = false});
  ImageSetup base = RandomSetup(random);
  ASSERT_EQ(Create(backing_disk, base.create), absl::OkStatus());
  absl::StatusOr<std::unique_ptr<Image>> backing = Open(backing_disk, base.open);
  ASSERT_TRUE(backing.ok()) << backing.status();
  ImageModel backing_model(loop, base.create.virtual_size, random());
  ASSERT_EQ(backing_model.Run(**backing, {.cluster_bytes = base.create.cluster_size}),
            absl::OkStatus());

  ImageSetup setup = RandomSetup(random);
  setup.create.preallocation = Preallocation::kOff;
  setup.create.backing_file = "base";
  setup.open.backing = backing->get();
  SCOPED_TRACE(testing::Message() << setup << " on " << base);
  SimDisk disk(loop, {.seed = GetParam(), .alignment = setup.disk_alignment, .record = false});
  if (!setup.can_allocate) disk.SetUnsupported({Op::kAllocate, Op::kWriteZeroes, Op::kPunch});
  std::vector<std::byte> bytes(backing_model.bytes().begin(), backing_model.bytes().end());
  bytes.resize(setup.create.virtual_size);
  RunModel(disk, setup, std::move(bytes), 30, random);
  EXPECT_EQ(backing_model.Compare(**backing), absl::OkStatus()) << "the backing file was changed";
}

// Clusters smaller than a block of the disk are written by read-modify-write, at the end of the
// disk too, and there while the disk grows.
using OnLargeBlocks = ImageModelTest;
INSTANTIATE_TEST_SUITE_P(Seed, OnLargeBlocks, testing::Range<uint64_t>(1, kIsSanitized ? 16 : 51),
                         testing::PrintToStringParamName());

TEST_P(OnLargeBlocks, ReadsWhatWasWritten) {
  std::mt19937_64 random(GetParam());
  ImageSetup setup = RandomSetup(random);
  setup.create.cluster_size = 512;
  setup.create.extended_l2 = false;
  setup.create.virtual_size = std::min<uint64_t>(setup.create.virtual_size, 1 << 20);
  setup.create.preallocation = Preallocation::kOff;
  setup.open.grow_ahead = false;
  SCOPED_TRACE(testing::Message() << setup);
  Loop loop;
  SimDisk disk(loop, {.seed = GetParam(), .alignment = 4096, .record = false});
  disk.SetUnsupported({Op::kAllocate, Op::kWriteZeroes, Op::kPunch});
  RunModel(disk, setup, 40, random);
}

using OnFile = ImageModelTest;
INSTANTIATE_TEST_SUITE_P(Seed, OnFile, testing::Range<uint64_t>(1, 25),
                         testing::PrintToStringParamName());

TEST_P(OnFile, ReadsWhatWasWritten) {
  std::mt19937_64 random(GetParam());
  const ImageSetup setup = RandomSetup(random);
  SCOPED_TRACE(testing::Message() << setup);
  const TempFile file(".qcow2");
  FileHost host(file.path());
  RunModel(host.disk(), setup, 40, random);
}

}  // namespace
}  // namespace ringcow
