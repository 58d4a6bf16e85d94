#include "engine/uring_disk.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/file_descriptor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Creation = UringDisk::Creation;

struct stat StatOf(const std::string& path) {
  struct stat info{};
  EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
  return info;
}

struct TemporaryName {
  explicit TemporaryName(std::string name) : path(std::move(name)) {}
  ~TemporaryName() { unlink(path.c_str()); }
  const std::string path;
};

class UringDiskTest : public testing::Test {
 protected:
  void SetUp() override {
    auto rings = Rings::Create(loop_);
    ASSERT_TRUE(rings.ok()) << rings.status();
    rings_ = *std::move(rings);
    path_ = testing::TempDir() + "/" +
            testing::UnitTest::GetInstance()->current_test_info()->name() + ".img";
    std::memset(block_.data(), 0x5a, block_.size());
  }
  void TearDown() override { unlink(path_.c_str()); }

  std::unique_ptr<UringDisk> Open(const std::string& path, const UringDisk::Options& options) {
    auto disk = UringDisk::Open(*rings_, path, options);
    EXPECT_TRUE(disk.ok()) << disk.status();
    return disk.ok() ? *std::move(disk) : nullptr;
  }
  std::string ErrorOf(const std::string& path, const UringDisk::Options& options = {}) {
    return std::string(UringDisk::Open(*rings_, path, options).status().message());
  }

  absl::Status Await(Chain& chain) {
    return loop_.Run(
        [](Chain& members) -> Task<absl::Status> { co_return co_await members; }(chain));
  }
  absl::Status Await(IoAwaiter awaiter) {
    return loop_.Run([](IoAwaiter& io) -> Task<absl::Status> { co_return co_await io; }(awaiter));
  }

  Loop loop_;
  std::unique_ptr<Rings> rings_;
  std::string path_;
  AlignedBuffer block_{4096};
};

TEST_F(UringDiskTest, ErrorsNameThePathAsQemuDoes) {
  EXPECT_EQ(ErrorOf("/nowhere/x"), "Could not open '/nowhere/x': No such file or directory");
  EXPECT_EQ(UringDisk::Open(*rings_, "/nowhere/x").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ErrorOf("/nowhere/x", {.creation = Creation::kIfMissing}),
            "Could not create '/nowhere/x': No such file or directory");
  EXPECT_EQ(ErrorOf("/"), "Could not open '/': Is a directory");
  EXPECT_EQ(ErrorOf("/", {.read_only = true}), "'file' driver requires '/' to be a regular file");
}

TEST_F(UringDiskTest, OpensDevicesOfNoSizeUnlessAFileIsAskedFor) {
  for (const FileKind kind : {FileKind::kAny, FileKind::kDevice, FileKind::kCdrom}) {
    for (const bool read_only : {false, true}) {
      const auto disk = Open("/dev/null", {.kind = kind, .read_only = read_only});
      ASSERT_NE(disk, nullptr);
      EXPECT_EQ(disk->size(), 0U);
      EXPECT_TRUE(disk->is_device());
    }
  }
  EXPECT_EQ(ErrorOf("/dev/null", {.kind = FileKind::kRegular}),
            "'file' driver requires '/dev/null' to be a regular file");
  EXPECT_EQ(ErrorOf("/", {.kind = FileKind::kDevice, .read_only = true}),
            "'host_device' driver requires '/' to be either a character or block device");
  EXPECT_EQ(ErrorOf("/", {.kind = FileKind::kCdrom, .read_only = true}),
            "'host_cdrom' driver requires '/' to be either a character or block device");
  EXPECT_EQ(ErrorOf("/dev/ptmx", {.read_only = true}),
            "Could not refresh total sector count: Illegal seek");
}

TEST_F(UringDiskTest, TransfersRegisteredMemoryLikeAnyOther) {
  AlignedBuffer registered(3 * 4096);
  const absl::Status status = rings_->RegisterMemory(registered.span());
  if (ErrnoOf(status) == EINVAL) GTEST_SKIP() << "before Linux 5.19";
  ASSERT_EQ(status, absl::OkStatus());
  auto disk = Open(path_, {.creation = Creation::kExclusive});
  const auto page = [&](size_t i) { return registered.span().subspan(i * 4096, 4096); };
  const iovec middle{page(1).data(), 4096};
  EXPECT_EQ(rings_->SlotOf(middle), 0U);
  std::memset(page(1).data(), 0x11, 4096);
  EXPECT_EQ(Await(disk->Write(HostOffset(0), page(1))), absl::OkStatus());
  EXPECT_EQ(Await(disk->Write(HostOffset(4096), block_.span())), absl::OkStatus());
  EXPECT_EQ(Await(disk->Read(HostOffset(4096), page(2))), absl::OkStatus());
  EXPECT_EQ(std::memcmp(page(2).data(), block_.data(), 4096), 0);
  EXPECT_EQ(Await(disk->Read(HostOffset(0), block_.span())), absl::OkStatus());
  EXPECT_EQ(std::memcmp(page(1).data(), block_.data(), 4096), 0);

  // Memory that begins or ends outside is not registered.
  EXPECT_EQ(rings_->SlotOf({block_.data(), 4096}), std::nullopt);
  EXPECT_EQ(rings_->SlotOf({page(2).data(), 4097}), std::nullopt);
  rings_->UnregisterMemory(registered.span());
  EXPECT_EQ(rings_->SlotOf(middle), std::nullopt);
  EXPECT_EQ(Await(disk->Write(HostOffset(0), page(1))), absl::OkStatus());
}

TEST_F(UringDiskTest, NoMoreMemoryThanThereIsRoomFor) {
  AlignedBuffer memory(65 * 4096);
  const absl::Status first = rings_->RegisterMemory(memory.span().first(4096));
  if (ErrnoOf(first) == EINVAL) GTEST_SKIP() << "before Linux 5.19";
  ASSERT_EQ(first, absl::OkStatus());
  for (size_t i = 1; i < 64; ++i) {
    ASSERT_EQ(rings_->RegisterMemory(memory.span().subspan(i * 4096, 4096)), absl::OkStatus());
  }
  EXPECT_EQ(ErrnoOf(rings_->RegisterMemory(memory.span().subspan(64 * 4096))), ENOSPC);
  rings_->UnregisterMemory(memory.span().first(4096));
  EXPECT_EQ(rings_->RegisterMemory(memory.span().subspan(64 * 4096)), absl::OkStatus());
}

TEST_F(UringDiskTest, DoesNotWaitForAFifo) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(ErrorOf(path_, {.read_only = true}), HasSubstr("to be a regular file"));
}

TEST_F(UringDiskTest, CreatesAndTruncatesOnlyWhenAsked) {
  EXPECT_EQ(UringDisk::Open(*rings_, path_).status().code(), absl::StatusCode::kNotFound);
  auto disk = Open(path_, {.creation = Creation::kExclusive});
  ASSERT_TRUE(Await(disk->Write(HostOffset(0), block_.span())).ok());
  disk = nullptr;

  EXPECT_EQ(UringDisk::Open(*rings_, path_, {.creation = Creation::kExclusive}).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Open(path_, {.creation = Creation::kIfMissing})->size(), 4096U);
  EXPECT_EQ(Open(path_, {.truncate = true})->size(), 0U);
  EXPECT_EQ(StatOf(path_).st_size, 0);
}

TEST_F(UringDiskTest, AnImageInUseIsNotTruncated) {
  auto disk = Open(path_, {.creation = Creation::kExclusive});
  ASSERT_TRUE(Await(disk->Write(HostOffset(0), block_.span())).ok());
  EXPECT_EQ(UringDisk::Open(*rings_, path_, {.truncate = true}).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(StatOf(path_).st_size, 4096);
}

TEST_F(UringDiskTest, IsDirectByDefaultAndAlignedForIt) {
  auto disk = Open(path_, {.creation = Creation::kExclusive});
  ASSERT_TRUE(disk->direct()) << disk->notice();
  EXPECT_THAT(disk->notice(), IsEmpty());
  EXPECT_NE(fcntl(disk->fd(), F_GETFL) & O_DIRECT, 0);
  EXPECT_EQ(fcntl(disk->fd(), F_GETFL) & O_NONBLOCK, 0);
  // The kernel takes what the disk calls aligned, and nothing is bounced.
  const std::span<std::byte> smallest = block_.span().first(disk->alignment());
  EXPECT_EQ(Await(disk->Write(HostOffset(disk->alignment()), smallest)), absl::OkStatus());
  EXPECT_EQ(Await(disk->Read(HostOffset(disk->alignment()), smallest)), absl::OkStatus());
  EXPECT_EQ(disk->counters().bounced, 0U);
}

TEST_F(UringDiskTest, IsBufferedWhenAskedWithoutANotice) {
  auto disk = Open(path_, {.direct = false, .creation = Creation::kExclusive});
  EXPECT_FALSE(disk->direct());
  EXPECT_THAT(disk->notice(), IsEmpty());
  EXPECT_EQ(disk->alignment(), 1U);
  EXPECT_EQ(Await(disk->Write(HostOffset(3), block_.span().subspan(1, 7))), absl::OkStatus());
  EXPECT_EQ(disk->size(), 10U);
  EXPECT_EQ(disk->counters().bounced, 0U);
}

// procfs has regular files, and no O_DIRECT.
TEST_F(UringDiskTest, SaysWhenTheFileSystemHasNoDirectIo) {
  auto disk = Open("/proc/self/limits", {.read_only = true});
  EXPECT_FALSE(disk->direct());
  EXPECT_THAT(disk->notice(), HasSubstr("'/proc/self/limits' is opened without O_DIRECT"));
}

TEST_F(UringDiskTest, AReadOnlyDiskRefusesWrites) {
  Open(path_, {.creation = Creation::kExclusive});
  auto disk = Open(path_, {.read_only = true});
  EXPECT_EQ(ErrnoOf(Await(disk->Write(HostOffset(0), block_.span()))), EBADF);
  EXPECT_EQ(StatOf(path_).st_size, 0);
}

TEST_F(UringDiskTest, FallocateAndTruncateReachTheFile) {
  auto disk = Open(path_, {.creation = Creation::kExclusive});
  ASSERT_EQ(Await(disk->Allocate(HostOffset(0), 1 << 20)), absl::OkStatus());
  EXPECT_EQ(StatOf(path_).st_size, 1 << 20);
  EXPECT_GE(StatOf(path_).st_blocks * 512, 1 << 20);

  ASSERT_EQ(Await(disk->Write(HostOffset(4096), block_.span())), absl::OkStatus());
  ASSERT_EQ(Await(disk->WriteZeroes(HostOffset(0), 1 << 21)), absl::OkStatus());
  EXPECT_EQ(StatOf(path_).st_size, 1 << 21);
  EXPECT_GE(StatOf(path_).st_blocks * 512, 1 << 21);
  ASSERT_EQ(Await(disk->Read(HostOffset(4096), block_.span())), absl::OkStatus());
  EXPECT_EQ(block_.data()[0], std::byte{0});

  ASSERT_EQ(Await(disk->Punch(HostOffset(0), 1 << 22)), absl::OkStatus());
  EXPECT_EQ(StatOf(path_).st_size, 1 << 21) << "punching keeps the size";
  EXPECT_LT(StatOf(path_).st_blocks * 512, 1 << 20);

  ASSERT_EQ(Await(disk->Truncate(12345)), absl::OkStatus());
  EXPECT_EQ(StatOf(path_).st_size, 12345);
  EXPECT_EQ(disk->size(), 12345U);
}

TEST_F(UringDiskTest, WhatTheFileSystemCannotDoIsUnimplemented) {
  struct statfs info{};
  if (statfs("/dev/shm", &info) != 0 || info.f_type != TMPFS_MAGIC) {
    GTEST_SKIP() << "no tmpfs in /dev/shm, which is without FALLOC_FL_ZERO_RANGE";
  }
  path_ = "/dev/shm/ringcow_uring_disk_test." + std::to_string(getpid());
  auto disk = Open(path_, {.creation = Creation::kExclusive});
  EXPECT_EQ(Await(disk->WriteZeroes(HostOffset(0), 4096)).code(), absl::StatusCode::kUnimplemented);
}

TEST_F(UringDiskTest, ErrorsOfRequestsNameWhatAndWhere) {
  auto disk = Open(path_, {.creation = Creation::kExclusive});
  const absl::Status status = Await(disk->Write(HostOffset(uint64_t{1} << 62), block_.span()));
  EXPECT_EQ(ErrnoOf(status), EFBIG);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("write of 4096 bytes at host offset 0x4000000000000000 of '" + path_));
}

// A block device with blocks of 4 KiB, backed by a file.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& file) {
    const FileDescriptor control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const FileDescriptor backing(open(file.c_str(), O_RDWR | O_CLOEXEC));
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return;
    path_ = "/dev/loop" + std::to_string(number);
    device_ = FileDescriptor(open(path_.c_str(), O_RDWR | O_CLOEXEC));
    loop_config config{};
    config.fd = static_cast<uint32_t>(backing.get());
    config.block_size = 4096;
    attached_ = ioctl(device_.get(), LOOP_CONFIGURE, &config) == 0;
  }
  ~LoopDevice() {
    if (attached_) ioctl(device_.get(), LOOP_CLR_FD);
  }

  bool attached() const { return attached_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  FileDescriptor device_;
  bool attached_ = false;
};

TEST_F(UringDiskTest, OpensBlockDevices) {
  Open(path_, {.creation = Creation::kExclusive});
  ASSERT_EQ(truncate(path_.c_str(), 1 << 20), 0);
  const LoopDevice device(path_);
  if (!device.attached()) GTEST_SKIP() << "no loop device to be had here";

  auto disk = Open(device.path(), {.truncate = true});  // it has no length to change
  EXPECT_EQ(disk->size(), 1U << 20);
  EXPECT_EQ(disk->alignment(), 4096U);
  EXPECT_TRUE(disk->direct());
  EXPECT_EQ(Await(disk->Write(HostOffset((1 << 20) - 4096), block_.span())), absl::OkStatus());
  EXPECT_EQ(Await(disk->Write(HostOffset(512), block_.span().first(512))), absl::OkStatus());
  EXPECT_EQ(disk->counters().bounced, 1U);
  EXPECT_EQ(Await(disk->WriteZeroes(HostOffset(0), 8192)), absl::OkStatus());
  EXPECT_EQ(Await(disk->Read(HostOffset(0), block_.span())), absl::OkStatus());
  EXPECT_EQ(block_.data()[512], std::byte{0});
  EXPECT_EQ(Await(disk->Fdatasync()), absl::OkStatus());
  EXPECT_EQ(ErrnoOf(Await(disk->Write(HostOffset(1 << 20), block_.span()))), ENOSPC);
}

// Two vectors take other SQEs than one.
TEST_F(UringDiskTest, GathersAndScatters) {
  auto disk = Open(path_, {.creation = Creation::kExclusive});
  AlignedBuffer low(4096);
  AlignedBuffer high(8192);
  std::memset(low.data(), 1, low.size());
  std::memset(high.data(), 2, high.size());
  const std::vector<iovec> vectors = {{low.data(), low.size()}, {high.data(), high.size()}};
  ASSERT_EQ(Await(disk->WriteV(HostOffset(4096), vectors)), absl::OkStatus());
  EXPECT_EQ(disk->size(), 16384U);

  std::memset(low.data(), 0, low.size());
  std::memset(high.data(), 0, high.size());
  ASSERT_EQ(Await(disk->ReadV(HostOffset(4096), vectors)), absl::OkStatus());
  EXPECT_EQ(low.data()[4095], std::byte{1});
  EXPECT_EQ(high.data()[0], std::byte{2});
  EXPECT_EQ(high.data()[8191], std::byte{2});
  EXPECT_EQ(disk->counters().bounced, 0U);
}

TEST_F(UringDiskTest, AChainWritesWhatItReadFromAnotherDisk) {
  const TemporaryName other(path_ + ".other");
  auto from = Open(other.path, {.creation = Creation::kExclusive});
  auto to = Open(path_, {.creation = Creation::kExclusive});
  ASSERT_EQ(Await(from->Write(HostOffset(0), block_.span())), absl::OkStatus());
  ASSERT_TRUE(to->CanLink(*from));

  AlignedBuffer copied(4096);
  AlignedBuffer own(4096);
  std::memset(own.data(), 1, own.size());
  const std::vector<iovec> vectors = {{own.data(), own.size()}, {copied.data(), copied.size()}};
  Chain chain = to->NewChain();
  chain.Read(*from, HostOffset(0), copied.span(), Content::kData)
      .WriteV(HostOffset(0), vectors, Content::kData)
      .WithoutDrain()
      .OnLane(Lane::kData);
  ASSERT_TRUE(chain.is_possible());
  ASSERT_EQ(Await(chain), absl::OkStatus());
  EXPECT_EQ(from->counters()[Content::kData].reads, 1U);
  EXPECT_EQ(to->counters()[Content::kData].writes, 1U);
  EXPECT_EQ(to->size(), 8192U);
  ASSERT_EQ(Await(to->Read(HostOffset(4096), own.span())), absl::OkStatus());
  EXPECT_EQ(std::memcmp(own.data(), block_.data(), own.size()), 0);

  // Nothing is there to be read, so nothing is written.
  Chain beyond = to->NewChain();
  beyond.Read(*from, HostOffset(4096), copied.span(), Content::kData)
      .WriteV(HostOffset(8192), vectors, Content::kData)
      .WithoutDrain()
      .OnLane(Lane::kData);
  const absl::Status status = Await(beyond);
  EXPECT_EQ(ErrnoOf(status), EIO);
  EXPECT_THAT(status.message(), HasSubstr(other.path)) << "the disk that failed";
  EXPECT_EQ(beyond.error(1), ECANCELED);
  EXPECT_EQ(StatOf(path_).st_size, 8192);

  Chain unaligned = to->NewChain();
  unaligned.Read(*from, HostOffset(1), copied.span(), Content::kData);
  EXPECT_FALSE(unaligned.is_possible());
}

}  // namespace
}  // namespace ringcow
