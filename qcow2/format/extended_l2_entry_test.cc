#include "qcow2/format/extended_l2_entry.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace ringcow {
namespace {

using Kind = L2Entry::Kind;
using State = SubclusterBitmap::State;

constexpr uint64_t kCopied = uint64_t{1} << 63;
constexpr uint64_t kCompressed = uint64_t{1} << 62;
constexpr HostOffset kCluster(0x50000);

Geometry ExtendedGeometry() {
  return *Geometry::Create({.virtual_size = 1 << 20, .extended_l2 = true});
}

// Subclusters 0 to 3 allocated, 4 to 7 zero, the rest unallocated.
constexpr SubclusterBitmap kMixed = SubclusterBitmap::FromRaw(0x000000f0'0000000f);

std::string Problem(uint64_t entry, uint64_t bitmap) {
  const ExtendedL2Entry extended = ExtendedL2Entry::FromRaw(entry, bitmap);
  const absl::Status status = extended.Validate(ExtendedGeometry(), HostOffset(0x40000), 7);
  EXPECT_EQ(status.ok(), extended.IsValid(ExtendedGeometry()));
  return std::string(status.message());
}

TEST(ExtendedL2EntryTest, KindsInACluster) {
  constexpr auto kEntry = ExtendedL2Entry::InCluster(kCluster, /*copied=*/true, kMixed);
  EXPECT_EQ(kEntry.entry().raw(), kCopied | 0x50000);
  EXPECT_EQ(kEntry.host_offset(), kCluster);
  EXPECT_TRUE(kEntry.copied());
  EXPECT_FALSE(kEntry.WithCopied(false).copied());
  EXPECT_EQ(kEntry.kind(0), Kind::kNormal);
  EXPECT_EQ(kEntry.kind(4), Kind::kZeroAllocated);
  EXPECT_EQ(kEntry.kind(8), Kind::kUnallocated);
  EXPECT_EQ(kEntry.RunLength(1), 3u);
  EXPECT_EQ(kEntry.RunLength(4), 4u);
  EXPECT_EQ(kEntry.RunLength(8), 24u);
  EXPECT_TRUE(kEntry.IsValid(ExtendedGeometry()));
}

TEST(ExtendedL2EntryTest, KindsWithoutACluster) {
  constexpr auto kEntry = ExtendedL2Entry::WithoutCluster(
      SubclusterBitmap().With({.first = 2, .count = 30}, State::kZero));
  EXPECT_EQ(kEntry.entry().raw(), 0u);
  EXPECT_FALSE(kEntry.host_offset().has_value());
  EXPECT_EQ(kEntry.kind(1), Kind::kUnallocated);
  EXPECT_EQ(kEntry.kind(2), Kind::kZeroPlain);
  EXPECT_EQ(kEntry.RunLength(2), 30u);
  EXPECT_TRUE(kEntry.IsValid(ExtendedGeometry()));
  EXPECT_EQ(ExtendedL2Entry().kind(0), Kind::kUnallocated);
  EXPECT_EQ(ExtendedL2Entry().RunLength(0), 32u);
}

TEST(ExtendedL2EntryTest, WhatIsUnusedCountsForNothing) {
  const auto without = [](uint64_t entry, uint64_t bitmap) {
    return ExtendedL2Entry::FromRaw(entry, bitmap).WithoutUnused();
  };
  EXPECT_EQ(without(kCopied | 0x50001, 1), ExtendedL2Entry::FromRaw(kCopied | 0x50000, 1));
  EXPECT_EQ(without(1, 0), ExtendedL2Entry());
  // Bit 0 belongs to the place of a compressed cluster.
  EXPECT_EQ(without(kCompressed | 0x50001, 0x180000000),
            ExtendedL2Entry::FromRaw(kCompressed | 0x50001, 0));
  EXPECT_EQ(without(kCopied | 0x50000, kMixed.raw()),
            ExtendedL2Entry::FromRaw(kCopied | 0x50000, kMixed.raw()));
}

TEST(ExtendedL2EntryTest, ACompressedClusterIsOneRun) {
  constexpr auto kEntry = ExtendedL2Entry::Compressed(L2Entry::FromRaw(kCompressed | 0x50123));
  EXPECT_EQ(kEntry.bitmap().raw(), 0u);
  EXPECT_EQ(kEntry.kind(5), Kind::kCompressed);
  EXPECT_EQ(kEntry.RunLength(5), 27u);
  EXPECT_FALSE(kEntry.host_offset().has_value());
  EXPECT_TRUE(kEntry.IsValid(ExtendedGeometry()));
}

TEST(ExtendedL2EntryTest, IsStoredInTwoWords) {
  std::array<std::byte, 64> table = {};
  const auto entry = ExtendedL2Entry::InCluster(kCluster, /*copied=*/false, kMixed);
  entry.Store(table, 2);
  EXPECT_EQ(LoadBe64At(table, 4), 0x50000u);
  EXPECT_EQ(LoadBe64At(table, 5), kMixed.raw());
  EXPECT_EQ(ExtendedL2Entry::Load(table, 2), entry);
  EXPECT_EQ(ExtendedL2Entry::Load(table, 1), ExtendedL2Entry());
  EXPECT_EQ(ExtendedL2Entry::Load(table, 3), ExtendedL2Entry());
}

TEST(ExtendedL2EntryTest, Validity) {
  EXPECT_EQ(Problem(0, 0), "");
  EXPECT_EQ(Problem(0, 0xffffffff00000000), "");
  EXPECT_EQ(Problem(kCopied | 0x50000, 0), "");
  EXPECT_EQ(Problem(kCopied | 0x50000, 0xffffffff00000000), "");
  EXPECT_EQ(Problem(0x50000, 0x00000000ffffffff), "");
  EXPECT_EQ(Problem(kCompressed | 0x50123, 0), "");

  EXPECT_EQ(Problem(0x50000, 0x0000000100000001),
            "Subcluster allocation bitmap 0x100000001 has subclusters that are both allocated and "
            "zero (L2 offset: 0x40000, L2 index: 0x7)");
  EXPECT_EQ(Problem(0, 1),
            "Subcluster allocation bitmap 0x1 has allocated subclusters without a host cluster "
            "(L2 offset: 0x40000, L2 index: 0x7)");
  EXPECT_EQ(Problem(kCompressed | 0x50123, 1),
            "Subcluster allocation bitmap 0x1 belongs to a compressed cluster "
            "(L2 offset: 0x40000, L2 index: 0x7)");
  EXPECT_EQ(Problem(0x50001, 0),
            "L2 entry 0x50001 has the zero flag set beside subclusters "
            "(L2 offset: 0x40000, L2 index: 0x7)");
  EXPECT_EQ(Problem(1, 0),
            "L2 entry 0x1 has the zero flag set beside subclusters "
            "(L2 offset: 0x40000, L2 index: 0x7)");
  EXPECT_EQ(Problem(0x50200, 0),
            "Cluster allocation offset 0x50200 unaligned (L2 offset: 0x40000, L2 index: 0x7)");
}

TEST(ExtendedL2EntryDeathTest, RefusesToBuildWhatIsNotValid) {
  EXPECT_DEATH(ExtendedL2Entry::WithoutCluster(kMixed), "allocated in no cluster");
  EXPECT_DEATH(
      ExtendedL2Entry::InCluster(kCluster, true, SubclusterBitmap::FromRaw(0x0000000100000001)),
      "allocated and zero");
  EXPECT_DEATH(ExtendedL2Entry::Compressed(L2Entry::Unallocated()), "not a compressed cluster");
  EXPECT_DEATH(ExtendedL2Entry().WithBitmap(kMixed), "not a bitmap for this entry");
}

}  // namespace
}  // namespace ringcow
