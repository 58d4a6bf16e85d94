#include "qcow2/preallocating_disk.h"

#include <cerrno>
#include <vector>

#include "engine/errno_status.h"
#include "engine/testing/await.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

class PreallocatingDiskTest : public testing::Test {
 protected:
  absl::Status Do(IoAwaiter io) { return Perform(disk_, std::move(io)); }
  absl::Status Write(uint64_t offset, uint64_t length) {
    const std::vector<std::byte> bytes(length, std::byte{7});
    return Do(disk_.Write(HostOffset(offset), bytes));
  }
  bool IsZero(uint64_t offset, uint64_t length) {
    std::vector<std::byte> bytes(length, std::byte{7});
    EXPECT_EQ(Do(disk_.Read(HostOffset(offset), bytes)), absl::OkStatus());
    return bytes == std::vector<std::byte>(length);
  }

  Loop loop_;
  SimDisk below_{loop_, {.record = false}};
  PreallocatingDisk disk_{below_, {.align = kMiB, .bytes = 4 * kMiB}};
};

TEST_F(PreallocatingDiskTest, IsAheadUntilItIsClosed) {
  ASSERT_EQ(Write(0, 4096), absl::OkStatus());
  EXPECT_EQ(disk_.size(), 4096U);
  EXPECT_EQ(below_.size(), 5 * kMiB);
  const uint64_t changes = below_.size_changes();
  ASSERT_EQ(Write(4 * kMiB, kMiB), absl::OkStatus());
  EXPECT_EQ(below_.size_changes(), changes) << "there was room for it";
  EXPECT_TRUE(IsZero(4096, 4096));
  EXPECT_EQ(loop_.Run(disk_.Close()), absl::OkStatus());
  EXPECT_EQ(below_.size(), 5 * kMiB);
  ASSERT_EQ(Do(disk_.Truncate(512)), absl::OkStatus());
  ASSERT_EQ(Write(512, 512), absl::OkStatus());
  EXPECT_EQ(loop_.Run(disk_.Close()), absl::OkStatus());
  EXPECT_EQ(below_.size(), 1024U);
}

TEST_F(PreallocatingDiskTest, WhatIsCutOffDoesNotComeBack) {
  ASSERT_EQ(Write(0, kMiB), absl::OkStatus());
  ASSERT_EQ(Do(disk_.Truncate(1024)), absl::OkStatus());
  ASSERT_EQ(Do(disk_.Truncate(kMiB)), absl::OkStatus());
  EXPECT_TRUE(IsZero(1024, kMiB - 1024));
  ASSERT_EQ(Write(2 * kMiB, 512), absl::OkStatus());
  EXPECT_TRUE(IsZero(1024, 2 * kMiB - 1024));
}

TEST_F(PreallocatingDiskTest, WritesGoOnWhereNothingCanBeAllocated) {
  below_.SetUnsupported({Op::kAllocate});
  ASSERT_EQ(Write(0, 4096), absl::OkStatus());
  EXPECT_EQ(below_.size(), 4096U);
  below_.SetUnsupported({});
  below_.SetSizeLimit(8192, ENOSPC);
  ASSERT_EQ(Write(4096, 4096), absl::OkStatus()) << "what is ahead does not fit, this does";
  EXPECT_EQ(ErrnoOf(Write(8192, 512)), ENOSPC);
  EXPECT_EQ(disk_.size(), 8192U);
  EXPECT_EQ(loop_.Run(disk_.Close()), absl::OkStatus());
}

// Half of a write that failed is there: it must not show in what is written behind it.
TEST_F(PreallocatingDiskTest, AFailedWriteHidesNothing) {
  ASSERT_EQ(Write(0, 512), absl::OkStatus());
  below_.SetFaults([](const Request& request, uint64_t /*ordinal*/) {
    return request.op == Op::kWrite ? Fault::Error(EIO, 2048) : Fault::None();
  });
  EXPECT_EQ(ErrnoOf(Write(512, 4096)), EIO);
  below_.SetFaults(nullptr);
  EXPECT_EQ(disk_.size(), 4608U) << "nobody knows how far it came";
  ASSERT_EQ(Write(8192, 512), absl::OkStatus());
  EXPECT_TRUE(IsZero(4608, 8192 - 4608));
}

}  // namespace
}  // namespace ringcow
