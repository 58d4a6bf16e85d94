#include <algorithm>
#include <vector>

#include "qcow2/format/extended_l2_entry.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/format/refcount_block.h"
#include "qcow2/format/refcount_table_entry.h"
#include "tests/fuzz/targets.h"

namespace ringcow {
namespace {

Geometry FormatFrom(uint8_t choice) {
  const bool extended_l2 = (choice & 1) != 0;
  const uint32_t least = extended_l2 ? kMinExtendedL2ClusterBits : kMinClusterBits;
  return *Geometry::Create({.version = (choice & 2) != 0 && !extended_l2 ? 2u : 3u,
                            .cluster_bits = least + (choice >> 2) % (kMaxClusterBits - least + 1),
                            .virtual_size = 1 << 20,
                            .extended_l2 = extended_l2});
}

void CheckL1(L1Entry entry, const Geometry& geometry) {
  FUZZ_EXPECT(entry.Validate(geometry, 3).ok() == entry.IsValid(geometry));
  if (!entry.IsValid(geometry) || !entry.l2_table().has_value()) return;
  FUZZ_EXPECT(L1Entry::Table(*entry.l2_table(), entry.copied()) == entry);
}

void CheckRefcountTable(RefcountTableEntry entry, const Geometry& geometry) {
  FUZZ_EXPECT(entry.Validate(geometry, 3).ok() == entry.IsValid(geometry));
  if (!entry.IsValid(geometry) || !entry.block().has_value()) return;
  FUZZ_EXPECT(RefcountTableEntry::Block(*entry.block()) == entry);
}

void CheckCompressed(L2Entry entry, const Geometry& geometry) {
  const std::optional<CompressedExtent> extent = entry.compressed_extent(geometry);
  FUZZ_EXPECT(extent.has_value() && extent->bytes != 0);
  FUZZ_EXPECT(extent->offset.value() <= kMaxEntryHostOffset);
  // The most that the count of sectors can say: two clusters.
  FUZZ_EXPECT(extent->bytes <= 2 * geometry.cluster_bytes());
  const HostOffset end = extent->offset + extent->bytes;
  if (extent->bytes > geometry.cluster_bytes() || end > L2Entry::MaxCompressedEnd(geometry)) return;
  FUZZ_EXPECT(L2Entry::Compressed(geometry, extent->offset, extent->bytes) == entry);
}

void CheckL2(L2Entry entry, const Geometry& geometry) {
  FUZZ_EXPECT(entry.Validate(geometry, HostOffset(0x40000), 3).ok() == entry.IsValid(geometry));
  if (!entry.IsValid(geometry)) return;
  switch (entry.kind()) {
    case L2Entry::Kind::kUnallocated:
    case L2Entry::Kind::kZeroPlain:
      FUZZ_EXPECT(!entry.host_offset().has_value());
      break;
    case L2Entry::Kind::kZeroAllocated:
      FUZZ_EXPECT(L2Entry::ZeroAllocated(*entry.host_offset(), entry.copied()) == entry);
      break;
    case L2Entry::Kind::kNormal:
      FUZZ_EXPECT(L2Entry::Normal(*entry.host_offset(), entry.copied()) == entry);
      break;
    case L2Entry::Kind::kCompressed:
      return CheckCompressed(entry, geometry);
  }
}

void CheckExtendedL2(ExtendedL2Entry entry, const Geometry& geometry) {
  FUZZ_EXPECT(entry.Validate(geometry, HostOffset(0x40000), 3).ok() == entry.IsValid(geometry));
  if (!entry.IsValid(geometry)) return;
  for (uint32_t i = 0; i < kSubclustersPerCluster;) {
    const L2Entry::Kind kind = entry.kind(i);
    const uint32_t end = i + entry.RunLength(i);
    FUZZ_EXPECT(end > i && end <= kSubclustersPerCluster);
    FUZZ_EXPECT(kind != L2Entry::Kind::kNormal || entry.host_offset().has_value());
    for (uint32_t j = i; j < end; ++j) FUZZ_EXPECT(entry.kind(j) == kind);
    FUZZ_EXPECT(end == kSubclustersPerCluster || entry.kind(end) != kind);
    i = end;
  }
}

// What is set is read back, and nothing beside it changes.
void CheckRefcounts(std::span<const std::byte> bytes, uint64_t value) {
  for (uint32_t order = 0; order <= kMaxRefcountOrder; ++order) {
    std::vector<std::byte> block(bytes.begin(), bytes.end());
    const uint64_t count = RefcountsIn(block.size(), order);
    if (count == 0) continue;
    const uint64_t index = value % count;
    const uint64_t before = GetRefcount(block, index, order);
    SetRefcount(block, index, order, value & MaxRefcount(order));
    FUZZ_EXPECT(GetRefcount(block, index, order) == (value & MaxRefcount(order)));
    SetRefcount(block, index, order, before);
    FUZZ_EXPECT(std::equal(block.begin(), block.end(), bytes.begin()));
  }
}

}  // namespace

void FuzzTableEntries(std::span<const std::byte> input) {
  const Geometry geometry = FormatFrom(Take<uint8_t>(input));
  const size_t entries = std::min<size_t>(input.size() / 8, 64);
  for (size_t i = 0; i < entries; ++i) {
    const uint64_t raw = LoadBe64At(input, i);
    CheckL1(L1Entry::FromRaw(raw), geometry);
    CheckRefcountTable(RefcountTableEntry::FromRaw(raw), geometry);
    CheckL2(L2Entry::FromRaw(raw), geometry);
    if (i % 2 == 1) CheckExtendedL2(ExtendedL2Entry::Load(input, i / 2), geometry);
    CheckRefcounts(input.first(std::min<size_t>(input.size(), 64)), raw);
  }
}

}  // namespace ringcow
