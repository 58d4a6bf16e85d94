#include "qcow2/format/subcluster_bitmap.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

namespace ringcow {
namespace {

using State = SubclusterBitmap::State;

constexpr std::array<State, 3> kStates = {State::kUnallocated, State::kAllocated, State::kZero};

TEST(SubclusterBitmapTest, HasTheSpecifiedBits) {
  EXPECT_EQ(SubclusterBitmap().raw(), 0u);
  EXPECT_EQ(SubclusterBitmap::AllAllocated().raw(), 0x00000000ffffffffu);
  EXPECT_EQ(SubclusterBitmap::AllZero().raw(), 0xffffffff00000000u);
  EXPECT_EQ(SubclusterBitmap().With({.first = 0, .count = 1}, State::kAllocated).raw(), 1u);
  EXPECT_EQ(SubclusterBitmap().With({.first = 31, .count = 1}, State::kAllocated).raw(),
            uint64_t{1} << 31);
  EXPECT_EQ(SubclusterBitmap().With({.first = 0, .count = 1}, State::kZero).raw(),
            uint64_t{1} << 32);
  EXPECT_EQ(SubclusterBitmap().With({.first = 30, .count = 2}, State::kZero).raw(),
            uint64_t{3} << 62);

  constexpr auto kMixed = SubclusterBitmap::FromRaw(0x80000000'00000001);
  static_assert(kMixed.allocated() == 1 && kMixed.zero() == 0x80000000);
  static_assert(kMixed.unallocated() == 0x7ffffffe);
  static_assert(kMixed.state(0) == State::kAllocated && kMixed.state(31) == State::kZero);
  static_assert(kMixed.RunLength(0) == 1 && kMixed.RunLength(1) == 30);
}

TEST(SubclusterBitmapTest, AllocatedAndZeroIsInvalid) {
  for (uint32_t i = 0; i < kSubclustersPerCluster; ++i) {
    const uint64_t bit = uint64_t{1} << i;
    EXPECT_TRUE(SubclusterBitmap::FromRaw(bit).IsValid());
    EXPECT_TRUE(SubclusterBitmap::FromRaw(bit << 32).IsValid());
    EXPECT_FALSE(SubclusterBitmap::FromRaw(bit | bit << 32).IsValid());
  }
  EXPECT_TRUE(SubclusterBitmap::FromRaw(0x55555555aaaaaaaa).IsValid());
  EXPECT_FALSE(SubclusterBitmap::FromRaw(~uint64_t{0}).IsValid());
}

// Every range set to every state, from random valid bitmaps, against an array of states.
TEST(SubclusterBitmapTest, AgreesWithAnArrayOfStates) {
  std::minstd_rand random(1);
  std::array<State, kSubclustersPerCluster> model;
  model.fill(State::kUnallocated);
  SubclusterBitmap bitmap;
  for (uint32_t first = 0; first <= kSubclustersPerCluster; ++first) {
    for (uint32_t count = 0; count <= kSubclustersPerCluster - first; ++count) {
      const State state = kStates[random() % kStates.size()];
      bitmap = bitmap.With({.first = first, .count = count}, state);
      for (uint32_t i = first; i < first + count; ++i) model[i] = state;
      ASSERT_TRUE(bitmap.IsValid());
      EXPECT_TRUE(bitmap.AllOf({.first = first, .count = count}, state));
      for (uint32_t i = 0; i < kSubclustersPerCluster; ++i) {
        ASSERT_EQ(bitmap.state(i), model[i]) << first << "+" << count << " at " << i;
        uint32_t end = i + 1;
        while (end < kSubclustersPerCluster && model[end] == model[i]) ++end;
        ASSERT_EQ(bitmap.RunLength(i), end - i) << first << "+" << count << " at " << i;
        EXPECT_TRUE(bitmap.AllOf({.first = i, .count = end - i}, model[i]));
        if (end < kSubclustersPerCluster) {
          EXPECT_FALSE(bitmap.AllOf({.first = i, .count = end - i + 1}, model[i]));
        }
      }
    }
  }
}

TEST(SubclusterBitmapDeathTest, RangesStayInTheCluster) {
  EXPECT_DEATH(SubclusterBitmap().state(32), "out of range");
  EXPECT_DEATH(SubclusterBitmap().With({.first = 31, .count = 2}, State::kZero), "out of range");
  EXPECT_DEATH(SubclusterBitmap().AllOf({.first = 33, .count = 0}, State::kZero), "out of range");
}

}  // namespace
}  // namespace ringcow
