// Images whose data is in an external file, raw or not: compared with an array of bytes under
// random requests, resized, and exchanged with QEMU. What a raw data file holds is what the guest
// reads.

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/errno_status.h"
#include "engine/testing/sim_disk.h"
#include "engine/zeroes.h"
#include "gtest/gtest.h"
#include "qcow2/image_chain.h"
#include "tests/support/checked.h"
#include "tests/support/exchange.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"
#include "tests/support/tools.h"
#include "tests/support/work_ahead.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

CreateOptions RandomCreateOptions(std::mt19937_64& random) {
  CreateOptions options;
  options.cluster_size = uint64_t{512} << (random() % 8);
  options.virtual_size = (1 << 20) + 512 * (random() % 300);
  options.refcount_bits = uint64_t{1} << (random() % 7);
  options.extended_l2 = options.cluster_size >= 16384 && random() % 2 == 0;
  options.data_file = "data";
  options.data_file_raw = random() % 2 == 0;
  return options;
}

OpenOptions RandomOpenOptions(std::mt19937_64& random) {
  OpenOptions options;
  if (random() % 2 == 0) options.l2_cache_bytes = 2 * uint64_t{options.cache_slice_bytes};
  if (random() % 4 == 0) options.write_back.mode = CacheMode::kWritethrough;
  SwitchWorkAhead(options, random);
  return options;
}

absl::Status CreateBoth(Disk& disk, Disk& data, const CreateOptions& options) {
  return disk.loop().Run(CreateImage(disk, options, &data));
}

Task<absl::Status> FillWithGarbage(Disk& disk) {
  const Bytes garbage(disk.size(), std::byte{0xee});
  co_return co_await disk.Write(HostOffset(0), garbage);
}

// The first bytes of `data`, which ends there or later, and then with zeroes only.
void ExpectRaw(const DiskImage& data, std::span<const std::byte> bytes) {
  ASSERT_GE(data.size(), bytes.size());
  Bytes found(data.size());
  data.Read(0, found);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), found.begin()));
  EXPECT_TRUE(AreZeroes(std::span(found).subspan(bytes.size())));
}

// The parameter is the seed.
class DataFileTest : public testing::TestWithParam<uint64_t> {};

using OnSimDisk = DataFileTest;
INSTANTIATE_TEST_SUITE_P(Seed, OnSimDisk, testing::Range<uint64_t>(1, 81),
                         testing::PrintToStringParamName());

TEST_P(OnSimDisk, ReadsWhatWasWritten) {
  std::mt19937_64 random(GetParam());
  Loop loop;
  const uint32_t alignment = random() % 3 == 0 ? 4096 : 512;
  SimDisk disk(loop, {.seed = GetParam(), .alignment = alignment, .record = false});
  SimDisk data(loop, {.name = "data", .seed = random(), .alignment = alignment, .record = false});
  if (random() % 3 == 0) data.SetUnsupported({Op::kAllocate, Op::kWriteZeroes, Op::kPunch});
  const CreateOptions create = RandomCreateOptions(random);
  const bool raw = create.data_file_raw;
  ASSERT_EQ(CreateBoth(disk, data, create), absl::OkStatus());
  Bytes bytes(create.virtual_size);
  if (!raw) {
    // Nobody said what an unallocated cluster has in the data file.
    ASSERT_EQ(loop.Run(FillWithGarbage(data)), absl::OkStatus());
  }
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round << (raw ? ", raw" : ""));
    OpenOptions options = RandomOpenOptions(random);
    options.data_file = &data;
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
    ASSERT_TRUE(image.ok()) << image.status();
    for (int i = 0; i < 2; ++i) {
      ImageModel model(loop, std::move(bytes), random());
      ASSERT_EQ(model.Run(**image, {.requests = 15, .cluster_bytes = create.cluster_size}),
                absl::OkStatus());
      ASSERT_EQ(model.Compare(**image), absl::OkStatus());
      bytes.assign(model.bytes().begin(), model.bytes().end());
      if (raw) ExpectRaw(data.content(), bytes);
      const uint64_t size = (1 << 20) - (1 << 18) + 512 * (random() % 2048);
      const auto preallocation = static_cast<Preallocation>(random() % 4);
      ASSERT_EQ(loop.Run((*image)->Resize(size, preallocation)), absl::OkStatus());
      bytes.resize(size);
      ASSERT_EQ(ImageModel(loop, bytes, 1).Compare(**image), absl::OkStatus());
      if (raw) ExpectRaw(data.content(), bytes);
    }
    ASSERT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
    image->reset();
    ASSERT_EQ(Findings(disk), "");
    if (raw) EXPECT_EQ(data.size(), bytes.size());
  }
  OpenOptions read_only = ReadOnly();
  read_only.data_file = &data;
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, read_only);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ((*image)->header().raw_external_data(), raw) << "an autoclear bit that is kept";
  EXPECT_EQ(ImageModel(loop, bytes, 1).Compare(**image), absl::OkStatus());
}

class DataFileAndQemuTest : public testing::TestWithParam<uint64_t> {
 protected:
  // Works on the image by name, as a program does.
  void Work(const CreateOptions& create, bool resizes);

  std::mt19937_64 random_{GetParam()};
  const TempFile image_{".qcow2"};
  const TempFile data_{".raw"};
  Bytes bytes_;
};
INSTANTIATE_TEST_SUITE_P(Seed, DataFileAndQemuTest, testing::Range<uint64_t>(1, 13),
                         testing::PrintToStringParamName());

void DataFileAndQemuTest::Work(const CreateOptions& create, bool resizes) {
  Loop loop;
  const auto rings = Rings::Create(loop);
  ASSERT_TRUE(rings.ok());
  auto chain = loop.Run(ImageChain::Open(
      **rings, image_.path(), {.file = {.format = "qcow2"}, .image = RandomOpenOptions(random_)}));
  ASSERT_TRUE(chain.ok()) << chain.status();
  ImageModel model(loop, std::move(bytes_), random_());
  ASSERT_EQ(model.Run(**chain, {.requests = 12, .cluster_bytes = create.cluster_size}),
            absl::OkStatus());
  ASSERT_EQ(model.Compare(**chain), absl::OkStatus());
  bytes_.assign(model.bytes().begin(), model.bytes().end());
  if (resizes) {
    const uint64_t size = AlignDown(bytes_.size() / 2, uint64_t{512}) + 512 * (random_() % 1024);
    ASSERT_EQ(loop.Run((*chain)->image()->Resize(size, Preallocation::kOff)), absl::OkStatus());
    bytes_.resize(size);
  }
  ASSERT_EQ(loop.Run((*chain)->Close()), absl::OkStatus());
}

TEST_P(DataFileAndQemuTest, UseItInTurn) {
  CreateOptions create = RandomCreateOptions(random_);
  create.data_file = data_.path();
  create.virtual_size = AlignUp(create.virtual_size, create.cluster_size);
  bytes_.resize(create.virtual_size);
  if (random_() % 2 == 0) {
    FileHost host(image_.path());
    auto data =
        UringDisk::Open(host.rings(), data_.path(), {.creation = UringDisk::Creation::kIfMissing});
    ASSERT_TRUE(data.ok()) << data.status();
    ASSERT_EQ(CreateBoth(host.disk(), **data, create), absl::OkStatus());
  } else {
    QemuImg({"create", "-q", "-f", "qcow2", "-o",
             absl::StrCat("data_file=", data_.path(),
                          ",data_file_raw=", create.data_file_raw ? "on" : "off", ",cluster_size=",
                          create.cluster_size, ",extended_l2=", create.extended_l2 ? "on" : "off"),
             image_.path(), absl::StrCat(create.virtual_size)});
  }
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round << (create.data_file_raw ? ", raw" : ""));
    ASSERT_NO_FATAL_FAILURE(Work(create, /*resizes=*/round == 1));
    ExpectCleanAndEqual(image_.path(), bytes_);
    if (create.data_file_raw) {
      QemuImg({"compare", "-f", "raw", "-F", "qcow2", data_.path(), image_.path()});
      std::ifstream file(data_.path(), std::ios::binary);
      const std::string raw{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
      ASSERT_EQ(raw.size(), bytes_.size());
      EXPECT_EQ(std::memcmp(raw.data(), bytes_.data(), bytes_.size()), 0);
    }
    // What QEMU discards in part of the last cluster would keep its bytes.
    if (bytes_.size() % create.cluster_size == 0) {
      WriteWithQemu(image_.path(), create.cluster_size, bytes_, random_);
    }
  }
}

class DataFileRefusalTest : public testing::Test {
 protected:
  DataFileRefusalTest() {
    create_ = {.virtual_size = 1 << 20, .data_file = "data", .data_file_raw = true};
    EXPECT_EQ(CreateBoth(disk_, data_, create_), absl::OkStatus());
    options_.data_file = &data_;
  }
  // The big-endian L2 entry of guest cluster `index`; the L2 table is the last of a fresh image.
  void PutL2Entry(uint64_t index, uint64_t raw) {
    Bytes bytes(8);
    for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(raw >> (56 - 8 * i));
    EXPECT_EQ(loop_.Run(Put(HostOffset(4 * 65536 + 8 * index), bytes)), absl::OkStatus());
  }
  Task<absl::Status> Put(HostOffset at, std::span<const std::byte> bytes) {
    co_return co_await disk_.Write(at, bytes);
  }
  absl::Status ReadCluster(uint64_t index) {
    OpenOptions options = options_;
    options.read_only = true;  // the image is not marked as corrupt
    const auto image = Open(disk_, options);
    if (!image.ok()) return image.status();
    Bytes bytes(65536);
    return loop_.Run((*image)->Read(GuestOffset(index * 65536), bytes));
  }

  Loop loop_;
  SimDisk disk_{loop_, {.record = false}};
  SimDisk data_{loop_, {.name = "data", .record = false}};
  CreateOptions create_;
  OpenOptions options_;
};

TEST_F(DataFileRefusalTest, WithoutIt) {
  const auto image = Open(disk_, {});
  EXPECT_EQ(image.status(),
            absl::FailedPreconditionError("'sim': its data file 'data' was not opened"));
}

// What a killed process left in it may be lost, but nothing rests on that before the first flush.
TEST_F(DataFileRefusalTest, OfTheFirstFlushWhereItCannotBeSynchronized) {
  data_.SetFaults([](const Request& request, uint64_t) {
    return request.op == Op::kFdatasync ? Fault::Error(EIO) : Fault::None();
  });
  const auto image = Open(disk_, options_);
  ASSERT_TRUE(image.ok()) << image.status();
  Bytes bytes(65536);
  EXPECT_EQ(loop_.Run((*image)->Read(GuestOffset(0), bytes)), absl::OkStatus());
  EXPECT_EQ(ErrnoOf(loop_.Run((*image)->Flush())), EIO);
  EXPECT_FALSE((*image)->failure().ok());
}

TEST_F(DataFileRefusalTest, OfSnapshots) {
  const auto image = Open(disk_, options_);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(ErrnoOf(loop_.Run((*image)->CreateSnapshot(Snapshot()))), ENOTSUP);
  EXPECT_EQ(ErrnoOf(loop_.Run((*image)->ApplySnapshot(0))), ENOTSUP);
  EXPECT_EQ(ErrnoOf(loop_.Run((*image)->DeleteSnapshot(0))), ENOTSUP);
}

// Its bytes would still be there.
TEST_F(DataFileRefusalTest, OfEmptyingARawOne) {
  const auto image = Open(disk_, options_);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(ErrnoOf(loop_.Run((*image)->Empty())), ENOTSUP);
}

TEST_F(DataFileRefusalTest, OfEntriesThatAreNotWhereTheyShouldBe) {
  constexpr uint64_t kCopied = uint64_t{1} << 63;
  constexpr uint64_t kCompressed = uint64_t{1} << 62;
  EXPECT_EQ(ReadCluster(0), absl::OkStatus());
  PutL2Entry(0, kCopied);  // what is there already: the first cluster
  EXPECT_EQ(ReadCluster(0), absl::OkStatus());
  PutL2Entry(0, kCopied | 65536);
  EXPECT_TRUE(absl::StrContains(ReadCluster(0).message(), "does not match guest cluster offset"));
  PutL2Entry(3, kCopied);
  EXPECT_TRUE(absl::StrContains(ReadCluster(3).message(), "does not match guest cluster offset"));
  PutL2Entry(4, kCompressed | 65536);
  EXPECT_TRUE(absl::StrContains(ReadCluster(4).message(), "compressed cluster in an image with"));
  EXPECT_EQ(ReadCluster(5), absl::OkStatus());
}

TEST_F(DataFileRefusalTest, OfAnImageWithAWrongEntry) {
  PutL2Entry(3, uint64_t{1} << 63);
  {
    const auto image = Open(disk_, options_);
    ASSERT_TRUE(image.ok()) << image.status();
    Bytes bytes(65536);
    const absl::Status status = loop_.Run((*image)->Read(GuestOffset(3 * 65536), bytes));
    EXPECT_TRUE(absl::StrContains(status.message(), "Marking image as corrupt: External data file"))
        << status;
    EXPECT_FALSE((*image)->failure().ok());
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(Open(disk_, options_).status()));
}

// A flag that is missing, which a check puts right, hides nothing.
TEST_F(DataFileRefusalTest, KeepsWhatAnEntryWithoutCopiedShows) {
  constexpr uint64_t kCluster = 65536;
  Bytes expected(kCluster, std::byte{7});
  {
    const auto image = Open(disk_, options_);
    ASSERT_TRUE(image.ok()) << image.status();
    ASSERT_EQ(loop_.Run((*image)->Write(GuestOffset(3 * kCluster), expected)), absl::OkStatus());
    ASSERT_EQ(loop_.Run((*image)->Close()), absl::OkStatus());
  }
  PutL2Entry(3, 3 * kCluster);
  const auto image = Open(disk_, options_);
  ASSERT_TRUE(image.ok()) << image.status();
  const Bytes written(4096, std::byte{8});
  ASSERT_EQ(loop_.Run((*image)->Write(GuestOffset(3 * kCluster + 8192), written)),
            absl::OkStatus());
  std::ranges::copy(written, expected.begin() + 8192);
  Bytes found(kCluster);
  ASSERT_EQ(loop_.Run((*image)->Read(GuestOffset(3 * kCluster), found)), absl::OkStatus());
  EXPECT_EQ(found, expected);
  std::vector<std::byte> raw(kCluster);
  data_.content().Read(3 * kCluster, raw);
  EXPECT_EQ(raw, expected);
}

TEST_F(DataFileRefusalTest, OfContradictions) {
  CreateOptions options = create_;
  options.backing_file = "base";
  EXPECT_FALSE(ValidateCreateOptions(options).ok());
  options = create_;
  options.version = 2;
  EXPECT_FALSE(ValidateCreateOptions(options).ok());
  options = create_;
  options.data_file = "";
  EXPECT_FALSE(ValidateCreateOptions(options).ok());
}

Task<absl::Status> PutCopiedAlone(Disk& disk, HostOffset at) {
  constexpr std::byte kCopied[8] = {std::byte{0x80}};
  co_return co_await disk.Write(at, kCopied);
}

// Where COPIED is at offset 0 in an image without a data file there is no cluster.
TEST(DataFileEntryTest, OffsetZeroIsAClusterInADataFileOnly) {
  Loop loop;
  SimDisk disk(loop, {.record = false});
  ASSERT_EQ(Create(disk, {.virtual_size = 1 << 20, .preallocation = Preallocation::kMetadata}),
            absl::OkStatus());
  ASSERT_EQ(loop.Run(PutCopiedAlone(disk, HostOffset(4 * 65536))), absl::OkStatus());
  const auto image = Open(disk, ReadOnly());
  ASSERT_TRUE(image.ok()) << image.status();
  Bytes bytes(65536, std::byte{1});
  ASSERT_EQ(loop.Run((*image)->Read(GuestOffset(0), bytes)), absl::OkStatus());
  EXPECT_EQ(bytes, Bytes(65536)) << "the header was read as guest data";
}

}  // namespace
}  // namespace ringcow
