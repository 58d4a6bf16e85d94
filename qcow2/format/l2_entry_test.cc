#include "qcow2/format/l2_entry.h"

#include <gtest/gtest.h>

#include <string>

namespace ringcow {
namespace {

using Kind = L2Entry::Kind;

constexpr uint64_t kCopied = uint64_t{1} << 63;
constexpr uint64_t kCompressed = uint64_t{1} << 62;

Geometry Make(uint32_t cluster_bits, uint32_t version = 3) {
  return *Geometry::Create({.version = version, .cluster_bits = cluster_bits});
}

std::string Problem(uint64_t raw, const Geometry& geometry = Make(16)) {
  const L2Entry entry = L2Entry::FromRaw(raw);
  const absl::Status status = entry.Validate(geometry, HostOffset(0x40000), 7);
  EXPECT_EQ(status.ok(), entry.IsValid(geometry));
  return std::string(status.message());
}

TEST(L2EntryTest, BuildsTheSpecifiedBits) {
  EXPECT_EQ(L2Entry::Unallocated().raw(), 0u);
  EXPECT_EQ(L2Entry::ZeroPlain().raw(), 1u);
  EXPECT_EQ(L2Entry::ZeroAllocated(HostOffset(0x50000), true).raw(), kCopied | 0x50001);
  EXPECT_EQ(L2Entry::Normal(HostOffset(0x50000), true).raw(), kCopied | 0x50000);
  EXPECT_EQ(L2Entry::Normal(HostOffset(0x50000), false).raw(), 0x50000u);
  EXPECT_EQ(L2Entry::Normal(HostOffset(0x50000), false).WithCopied(true).raw(), kCopied | 0x50000);
  EXPECT_EQ(L2Entry::ZeroAllocated(HostOffset(0x50000), true).WithCopied(false).raw(), 0x50001u);
}

TEST(L2EntryTest, ReadsTheSpecifiedBits) {
  const struct {
    uint64_t raw = 0;
    Kind kind = Kind::kUnallocated;
    std::optional<HostOffset> host_offset;
    bool copied = false;
  } kCases[] = {
      {0, Kind::kUnallocated, std::nullopt, false},
      {kCopied, Kind::kNormal, HostOffset(0), true},  // in an external data file
      {kCopied | 1, Kind::kZeroPlain, std::nullopt, true},
      {1, Kind::kZeroPlain, std::nullopt, false},
      {0x50001, Kind::kZeroAllocated, HostOffset(0x50000), false},
      {kCopied | 0x50000, Kind::kNormal, HostOffset(0x50000), true},
      {kCopied | 0x00ffffffffff0000, Kind::kNormal, HostOffset(0x00ffffffffff0000), true},
      {kCompressed | 0x50000, Kind::kCompressed, std::nullopt, false},
      {kCompressed | 0x50001, Kind::kCompressed, std::nullopt, false},
      {kCompressed, Kind::kCompressed, std::nullopt, false},
  };
  for (const auto& c : kCases) {
    const L2Entry entry = L2Entry::FromRaw(c.raw);
    EXPECT_EQ(entry.kind(), c.kind) << std::hex << c.raw;
    EXPECT_EQ(entry.host_offset(), c.host_offset) << std::hex << c.raw;
    EXPECT_EQ(entry.copied(), c.copied) << std::hex << c.raw;
  }
}

TEST(L2EntryTest, CompressedExtents) {
  const auto extent = [](uint64_t raw, uint32_t cluster_bits) {
    return L2Entry::FromRaw(raw).compressed_extent(Make(cluster_bits));
  };
  const auto from_to = [](uint64_t begin, uint64_t end) {
    return CompressedExtent{.offset = HostOffset(begin), .bytes = end - begin};
  };
  // 64 KiB clusters: 54 bits of offset, 8 bits of further sectors.
  EXPECT_EQ(extent(kCompressed | uint64_t{3} << 54 | 0x50123, 16), from_to(0x50123, 0x50800));
  EXPECT_EQ(extent(kCompressed | 0x50000, 16), from_to(0x50000, 0x50200));
  // 512 byte clusters: 1 bit of further sectors.
  EXPECT_EQ(extent(kCompressed | uint64_t{1} << 61 | 0x50000, 9), from_to(0x50000, 0x50400));
  // 2 MiB clusters: 13 bits of further sectors.
  constexpr uint64_t kOffsetLimit = uint64_t{1} << 49;
  EXPECT_EQ(extent(~kCopied, 21), from_to(kOffsetLimit - 1, kOffsetLimit + uint64_t{8191} * 512));

  EXPECT_EQ(extent(0x50000, 16), std::nullopt);
}

TEST(L2EntryTest, BuildsCompressedEntriesThatCoverTheData) {
  const uint64_t kOffset = uint64_t{1} << 40;
  for (uint32_t bits = kMinClusterBits; bits <= kMaxClusterBits; ++bits) {
    const Geometry geometry = Make(bits);
    for (const uint64_t begin : {0, 1, 511, 512, 1000}) {
      for (const uint64_t bytes :
           {uint64_t{1}, uint64_t{511}, uint64_t{512}, geometry.cluster_bytes()}) {
        const L2Entry entry = L2Entry::Compressed(geometry, HostOffset(kOffset + begin), bytes);
        EXPECT_EQ(entry.kind(), Kind::kCompressed);
        EXPECT_TRUE(entry.IsValid(geometry));
        const CompressedExtent extent = *entry.compressed_extent(geometry);
        EXPECT_EQ(extent.offset, HostOffset(kOffset + begin));
        EXPECT_EQ(begin + extent.bytes, AlignUp(begin + bytes, 512)) << bits << " " << bytes;
      }
    }
  }
  EXPECT_EQ(L2Entry::Compressed(Make(16), HostOffset(0x50123), 1501).raw(),
            kCompressed | uint64_t{3} << 54 | 0x50123);
  EXPECT_EQ(L2Entry::MaxCompressedEnd(Make(9)), HostOffset(uint64_t{1} << 56));
  EXPECT_EQ(L2Entry::MaxCompressedEnd(Make(16)), HostOffset(uint64_t{1} << 54));
  EXPECT_EQ(L2Entry::MaxCompressedEnd(Make(21)), HostOffset(uint64_t{1} << 49));
}

TEST(L2EntryTest, Validity) {
  EXPECT_EQ(Problem(0), "");
  EXPECT_EQ(Problem(1), "");
  EXPECT_EQ(Problem(0x50001), "");
  EXPECT_EQ(Problem(kCopied | 0x50000), "");
  EXPECT_EQ(Problem(0x50200),
            "Cluster allocation offset 0x50200 unaligned (L2 offset: 0x40000, L2 index: 0x7)");
  EXPECT_EQ(Problem(0x50002),
            "L2 entry 0x50002 has reserved bits set (L2 offset: 0x40000, L2 index: 0x7)");
  EXPECT_EQ(Problem(0x50001, Make(16, 2)),
            "Zero cluster entry found in pre-v3 image (L2 offset: 0x40000, L2 index: 0x7)");
  EXPECT_EQ(Problem(0x50000, Make(16, 2)), "");
  for (int bit = 1; bit < 62; ++bit) {
    if (bit >= 9 && bit <= 55) continue;
    EXPECT_NE(Problem(0x50000 | uint64_t{1} << bit), "") << "bit " << bit;
  }
}

TEST(L2EntryTest, ValidityOfCompressedEntries) {
  EXPECT_EQ(Problem(kCompressed | 0x50123), "");
  EXPECT_EQ(Problem(~kCopied), "");
  EXPECT_EQ(Problem(kCopied | kCompressed | 0x50000),
            "Compressed L2 entry 0xc000000000050000 has the copied flag set "
            "(L2 offset: 0x40000, L2 index: 0x7)");
  EXPECT_EQ(Problem(kCompressed | uint64_t{1} << 56, Make(9)),
            "Compressed L2 entry 0x4100000000000000 has an impossible offset "
            "(L2 offset: 0x40000, L2 index: 0x7)");
}

TEST(L2EntryDeathTest, RefusesToBuildWhatCannotBeStored) {
  EXPECT_DEATH(L2Entry::Normal(HostOffset(0), false), "not a data cluster offset");
  EXPECT_DEATH(L2Entry::Normal(HostOffset(0x50001), true), "not a data cluster offset");
  EXPECT_DEATH(L2Entry::ZeroAllocated(HostOffset(uint64_t{1} << 56), true),
               "not a data cluster offset");
  EXPECT_DEATH(L2Entry::Compressed(Make(16), HostOffset(0x50000), 0), "not the size");
  EXPECT_DEATH(L2Entry::Compressed(Make(16), HostOffset(0x50000), 65537), "not the size");
  EXPECT_DEATH(L2Entry::Compressed(Make(21), HostOffset((uint64_t{1} << 49) - 511), 512),
               "beyond what an entry");
}

}  // namespace
}  // namespace ringcow
