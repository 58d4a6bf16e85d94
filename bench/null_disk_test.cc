#include "bench/null_disk.h"

#include <cstring>

#include "absl/status/status.h"
#include "engine/aligned_buffer.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr HostOffset kAt(8192);

class NullDiskTest : public testing::Test {
 protected:
  // What reads find, in memory that held 'm's before.
  char ReadByte(HostOffset at, Content content) {
    std::memset(buffer_.data(), 'm', buffer_.size());
    EXPECT_TRUE(loop_.Run(ReadInto(at, content)).ok());
    return static_cast<char>(*buffer_.data());
  }
  Task<absl::Status> ReadInto(HostOffset at, Content content) {
    co_return co_await disk_.Read(at, buffer_.span(), content);
  }
  Task<absl::Status> Write(HostOffset at, char byte, Content content) {
    std::memset(buffer_.data(), byte, buffer_.size());
    co_return co_await disk_.Write(at, buffer_.span(), content);
  }
  Task<absl::Status> Chained(HostOffset at, char byte) {
    std::memset(buffer_.data(), byte, buffer_.size());
    Chain chain = disk_.NewChain();
    chain.Write(at, buffer_.span(), Content::kL2).Fdatasync();
    co_return co_await chain;
  }
  Task<absl::Status> Punch(HostOffset at, uint64_t length) {
    co_return co_await disk_.Punch(at, length);
  }

  Loop loop_;
  NullDisk disk_{loop_};
  AlignedBuffer buffer_{4096};
};

TEST_F(NullDiskTest, KeepsMetadataAndThrowsDataAway) {
  ASSERT_TRUE(loop_.Run(Write(kAt, 'a', Content::kL2)).ok());
  EXPECT_EQ(ReadByte(kAt, Content::kL2), 'a');
  EXPECT_EQ(ReadByte(kAt, Content::kData), 'm');
  ASSERT_TRUE(loop_.Run(Write(kAt, 'b', Content::kData)).ok());
  EXPECT_EQ(ReadByte(kAt, Content::kL2), 'a');
  ASSERT_TRUE(loop_.Run(Chained(kAt, 'c')).ok());
  EXPECT_EQ(ReadByte(kAt, Content::kL2), 'c');
  EXPECT_EQ(disk_.size(), kAt.value() + 4096);
  EXPECT_EQ(disk_.counters().fsyncs, 1U);
}

TEST_F(NullDiskTest, WhatIsPunchedReadsAsZeroes) {
  ASSERT_TRUE(loop_.Run(Write(kAt, 'a', Content::kL2)).ok());
  ASSERT_TRUE(loop_.Run(Punch(kAt, 512)).ok());
  EXPECT_EQ(ReadByte(kAt, Content::kL2), '\0');
  EXPECT_EQ(static_cast<char>(buffer_.data()[511]), '\0');
  EXPECT_EQ(static_cast<char>(buffer_.data()[512]), 'a');
}

TEST_F(NullDiskTest, CountsTurnsInWhichSomethingCompleted) {
  ASSERT_TRUE(loop_.Run(Write(kAt, 'a', Content::kL2)).ok());
  EXPECT_EQ(disk_.turns(), 1U);
}

}  // namespace
}  // namespace ringcow
