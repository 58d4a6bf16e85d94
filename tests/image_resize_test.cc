// The virtual disk grows and shrinks between random requests: what is added reads as zeroes, also
// where the backing file has data, and QEMU agrees.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

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
constexpr uint64_t kMostBytes = 3 << 20;

CreateOptions RandomCreateOptions(std::mt19937_64& random) {
  CreateOptions options;
  options.virtual_size = 512 * (1 + random() % (kMostBytes / 512));
  options.cluster_size = uint64_t{512} << (random() % 8);
  options.version = random() % 4 == 0 ? 2 : 3;
  options.refcount_bits = options.version == 2 ? 16 : uint64_t{1} << (random() % 7);
  options.extended_l2 = options.version == 3 && options.cluster_size >= 16384 && random() % 2 == 0;
  return options;
}

Preallocation RandomPreallocation(std::mt19937_64& random) {
  constexpr Preallocation kAll[] = {Preallocation::kOff,    Preallocation::kOff,
                                    Preallocation::kOff,    Preallocation::kMetadata,
                                    Preallocation::kFalloc, Preallocation::kFull};
  return kAll[random() % 6];
}

// The image reads as `bytes`, and as the returned ones afterwards.
void WorkAndResize(Disk& disk, const CreateOptions& create, OpenOptions options, Bytes& bytes,
                   std::mt19937_64& random) {
  for (int reopened = 0; reopened < 2; ++reopened) {
    if (random() % 2 == 0) options.l2_cache_bytes = 2 * options.cache_slice_bytes;
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
    ASSERT_TRUE(image.ok()) << image.status();
    for (int i = 0; i < 4; ++i) {
      ImageModel model(disk.loop(), std::move(bytes), random());
      ASSERT_EQ(model.Run(**image, {.requests = 8,
                                    .cluster_bytes = create.cluster_size,
                                    .discards_zero = create.version > 2 || !options.backing}),
                absl::OkStatus());
      bytes.assign(model.bytes().begin(), model.bytes().end());
      if (random() % 2 == 0) {
        const Bytes state(1 + random() % 10000, std::byte{0x57});
        ASSERT_EQ(disk.loop().Run((*image)->WriteVmState(random() % (4 << 20), state)),
                  absl::OkStatus());
      }
      const uint64_t size = 512 * (1 + random() % (kMostBytes / 512));
      SCOPED_TRACE(testing::Message() << "from " << bytes.size() << " to " << size << " bytes");
      // Preallocated clusters hide the backing file, so QEMU allows none with one.
      const Preallocation preallocation =
          options.backing == nullptr ? RandomPreallocation(random) : Preallocation::kOff;
      ASSERT_EQ(disk.loop().Run((*image)->Resize(size, preallocation)), absl::OkStatus());
      EXPECT_EQ((*image)->size(), size);
      bytes.resize(size);
      ASSERT_EQ(ImageModel(disk.loop(), bytes, 1).Compare(**image), absl::OkStatus());
    }
    ASSERT_EQ(disk.loop().Run((*image)->Close()), absl::OkStatus());
    image->reset();
    ASSERT_EQ(Findings(disk), "");
  }
}

// The parameter is the seed.
class ImageResizeTest : public testing::TestWithParam<uint64_t> {};

using OnSimDisk = ImageResizeTest;
INSTANTIATE_TEST_SUITE_P(Seed, OnSimDisk, testing::Range<uint64_t>(1, 61),
                         testing::PrintToStringParamName());

TEST_P(OnSimDisk, ReadsAsZeroesWhatIsNew) {
  std::mt19937_64 random(GetParam());
  Loop loop;
  SimDisk disk(loop, {.seed = GetParam(), .record = false});
  const CreateOptions create = RandomCreateOptions(random);
  ASSERT_EQ(Create(disk, create), absl::OkStatus());
  Bytes bytes(create.virtual_size);
  WorkAndResize(disk, create, {}, bytes, random);
}

using OnBackingFile = ImageResizeTest;
INSTANTIATE_TEST_SUITE_P(Seed, OnBackingFile, testing::Range<uint64_t>(1, 61),
                         testing::PrintToStringParamName());

TEST_P(OnBackingFile, DoesNotShowWhatIsBehindTheEnd) {
  std::mt19937_64 random(GetParam());
  Loop loop;
  DiskImage content;
  content.Write(0, Bytes(2 << 20, std::byte{0xba}));
  SimDisk backing_disk(loop, {.record = false}, content);
  RawImage backing(backing_disk, /*read_only=*/true);
  SimDisk disk(loop, {.seed = GetParam(), .record = false});
  CreateOptions create = RandomCreateOptions(random);
  create.backing_file = "base.raw";
  ASSERT_EQ(Create(disk, create), absl::OkStatus());
  Bytes bytes(2 << 20, std::byte{0xba});
  bytes.resize(create.virtual_size);
  OpenOptions options;
  options.backing = &backing;
  WorkAndResize(disk, create, options, bytes, random);
}

using OnFile = ImageResizeTest;
INSTANTIATE_TEST_SUITE_P(Seed, OnFile, testing::Range<uint64_t>(101, 107),
                         testing::PrintToStringParamName());

TEST_P(OnFile, QemuAgrees) {
  std::mt19937_64 random(GetParam());
  const TempFile file(".qcow2");
  const CreateOptions create = RandomCreateOptions(random);
  Bytes bytes(create.virtual_size);
  {
    FileHost host(file.path());
    ASSERT_EQ(Create(host.disk(), create), absl::OkStatus());
    WorkAndResize(host.disk(), create, {}, bytes, random);
  }
  if (!HasFatalFailure()) ExpectCleanAndEqual(file.path(), bytes);
}

TEST(ImageResize, ASmallerDiskKeepsNoEmptyRefcountBlocks) {
  Loop loop;
  SimDisk disk(loop, {.record = false});
  const CreateOptions create = {.virtual_size = 1 << 20, .cluster_size = 512, .refcount_bits = 64};
  ASSERT_EQ(Create(disk, create), absl::OkStatus());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_EQ(loop.Run((*image)->Write(GuestOffset(0), Bytes(1 << 20, std::byte{1}))),
            absl::OkStatus());
  ASSERT_EQ(loop.Run((*image)->Resize(4096, Preallocation::kOff)), absl::OkStatus());
  ASSERT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk), "");
  EXPECT_LE(disk.size(), 64 * 512U) << "what one refcount block counts";
  Bytes table((*image)->header().refcount_table_clusters * 512);
  disk.content().Read((*image)->header().refcount_table_offset.value(), table);
  EXPECT_EQ(std::count(table.begin() + 8, table.end(), std::byte{0}), table.size() - 8);
}

TEST(ImageResize, SnapshotsKeepTheirSize) {
  const TempFile file(".qcow2");
  FileHost host(file.path());
  ASSERT_EQ(Create(host.disk(), {.virtual_size = 1 << 20, .cluster_size = 4096}), absl::OkStatus());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(host.disk());
  ASSERT_TRUE(image.ok()) << image.status();
  Bytes bytes(1 << 20, std::byte{1});
  ASSERT_EQ(host.loop().Run((*image)->Write(GuestOffset(0), bytes)), absl::OkStatus());
  Snapshot large;
  large.name = "large";
  ASSERT_EQ(host.loop().Run((*image)->CreateSnapshot(large)), absl::OkStatus());
  ASSERT_EQ(host.loop().Run((*image)->Resize(512, Preallocation::kOff)), absl::OkStatus());
  EXPECT_EQ((*image)->size(), 512U);
  ASSERT_EQ(host.loop().Run((*image)->ApplySnapshot(0)), absl::OkStatus());
  EXPECT_EQ((*image)->size(), 1U << 20);
  EXPECT_EQ(ImageModel(host.loop(), bytes, 1).Compare(**image), absl::OkStatus());
  ASSERT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(host.disk()), "");
}

}  // namespace
}  // namespace ringcow
