#include "qcow2/format/l1_entry.h"

#include <gtest/gtest.h>

#include <string>

namespace ringcow {
namespace {

constexpr uint64_t kCopied = uint64_t{1} << 63;

std::string Problem(uint64_t raw) {
  const Geometry geometry = *Geometry::Create({});
  const L1Entry entry = L1Entry::FromRaw(raw);
  const absl::Status status = entry.Validate(geometry, 7);
  EXPECT_EQ(status.ok(), entry.IsValid(geometry));
  return std::string(status.message());
}

TEST(L1EntryTest, BuildsTheSpecifiedBits) {
  EXPECT_EQ(L1Entry::Unallocated().raw(), 0u);
  EXPECT_EQ(L1Entry::Table(HostOffset(0x40000), true).raw(), kCopied | 0x40000);
  EXPECT_EQ(L1Entry::Table(HostOffset(0x40000), false).raw(), 0x40000u);
  EXPECT_EQ(L1Entry::Table(HostOffset(0x40000), true).WithCopied(false).raw(), 0x40000u);
  EXPECT_EQ(L1Entry::Table(HostOffset(0x40000), false).WithCopied(true).raw(), kCopied | 0x40000);
}

TEST(L1EntryTest, ReadsTheSpecifiedBits) {
  const L1Entry entry = L1Entry::FromRaw(kCopied | 0x00ffffffffff0000);
  EXPECT_TRUE(entry.copied());
  EXPECT_EQ(entry.l2_table(), HostOffset(0x00ffffffffff0000));
  EXPECT_EQ(L1Entry::FromRaw(0).l2_table(), std::nullopt);
  EXPECT_EQ(L1Entry::FromRaw(kCopied).l2_table(), std::nullopt);
}

TEST(L1EntryTest, Validity) {
  EXPECT_EQ(Problem(0), "");
  EXPECT_EQ(Problem(0x40000), "");
  EXPECT_EQ(Problem(kCopied | 0x00ffffffffff0000), "");
  EXPECT_EQ(Problem(0x40200), "L2 table offset 0x40200 unaligned (L1 index: 0x7)");
  EXPECT_EQ(Problem(0x40001), "L1 entry 0x40001 has reserved bits set (L1 index: 0x7)");
  for (int bit = 0; bit < 63; ++bit) {
    if (bit >= 9 && bit <= 55) continue;
    EXPECT_NE(Problem(0x40000 | uint64_t{1} << bit), "") << "bit " << bit;
  }
}

TEST(L1EntryDeathTest, RefusesToBuildWhatCannotBeStored) {
  EXPECT_DEATH(L1Entry::Table(HostOffset(0), true), "not an L2 table offset");
  EXPECT_DEATH(L1Entry::Table(HostOffset(0x40001), true), "not an L2 table offset");
  EXPECT_DEATH(L1Entry::Table(HostOffset(uint64_t{1} << 56), true), "not an L2 table offset");
}

}  // namespace
}  // namespace ringcow
