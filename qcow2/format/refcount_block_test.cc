#include "qcow2/format/refcount_block.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <random>
#include <vector>

namespace ringcow {
namespace {

TEST(RefcountBlockTest, WidthsBelowAByteStartAtTheLeastSignificantBit) {
  const std::array<std::byte, 2> block = {std::byte{0b11'00'10'01}, std::byte{0x5a}};
  EXPECT_EQ(GetRefcount(block, 0, 0), 1u);
  EXPECT_EQ(GetRefcount(block, 1, 0), 0u);
  EXPECT_EQ(GetRefcount(block, 7, 0), 1u);
  EXPECT_EQ(GetRefcount(block, 9, 0), 1u);
  EXPECT_EQ(GetRefcount(block, 0, 1), 1u);
  EXPECT_EQ(GetRefcount(block, 1, 1), 2u);
  EXPECT_EQ(GetRefcount(block, 3, 1), 3u);
  EXPECT_EQ(GetRefcount(block, 2, 2), 0xau);
  EXPECT_EQ(GetRefcount(block, 3, 2), 0x5u);
}

TEST(RefcountBlockTest, WiderOnesAreBigEndian) {
  std::array<std::byte, 16> block = {};
  for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<std::byte>(i);
  EXPECT_EQ(GetRefcount(block, 3, 3), 3u);
  EXPECT_EQ(GetRefcount(block, 3, 4), 0x0607u);
  EXPECT_EQ(GetRefcount(block, 3, 5), 0x0c0d0e0fu);
  EXPECT_EQ(GetRefcount(block, 1, 6), 0x08090a0b0c0d0e0fu);
}

TEST(RefcountBlockTest, MaxRefcounts) {
  const std::array<uint64_t, 7> kMax = {1, 3, 15, 255, 65535, 0xffffffff, ~uint64_t{0}};
  for (uint32_t order = 0; order <= kMaxRefcountOrder; ++order) {
    EXPECT_EQ(MaxRefcount(order), kMax[order]);
  }
}

// Random sets against a plain array: what was set is read back, and no neighbour changes.
TEST(RefcountBlockTest, SetsOneRefcountAndNoOther) {
  constexpr uint32_t kSeed = 20240817;
  SCOPED_TRACE(kSeed);
  std::mt19937_64 random(kSeed);
  for (uint32_t order = 0; order <= kMaxRefcountOrder; ++order) {
    std::vector<std::byte> block(512);
    std::vector<uint64_t> expected(RefcountsIn(block.size(), order));
    ASSERT_EQ(expected.size() << order, 4096u);
    for (int i = 0; i < 10000; ++i) {
      const uint64_t index = random() % expected.size();
      const uint64_t value = random() & MaxRefcount(order);
      SetRefcount(block, index, order, value);
      expected[index] = value;
    }
    for (uint64_t index = 0; index < expected.size(); ++index) {
      ASSERT_EQ(GetRefcount(block, index, order), expected[index]) << order << " " << index;
    }
  }
}

TEST(RefcountBlockDeathTest, StopsAtWhatWouldCorrupt) {
  std::array<std::byte, 8> block = {};
  for (uint32_t order = 0; order <= kMaxRefcountOrder; ++order) {
    const uint64_t entries = RefcountsIn(block.size(), order);
    EXPECT_DEATH(GetRefcount(block, entries, order), "refcount out of range");
    EXPECT_DEATH(SetRefcount(block, entries, order, 0), "refcount out of range");
    if (order < 6) {
      EXPECT_DEATH(SetRefcount(block, 0, order, MaxRefcount(order) + 1), "does not fit");
    }
  }
  EXPECT_DEATH(GetRefcount(block, 0, 7), "no such refcount width");
}

}  // namespace
}  // namespace ringcow
