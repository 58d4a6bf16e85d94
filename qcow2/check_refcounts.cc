#include "qcow2/check_refcounts.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/refcount_block.h"

namespace ringcow {
namespace {

using absl::StrFormat;

// What the file has of the refcount table; the rest reads as zeroes, as entries without a block.
uint64_t TableBytesInFile(const Header& header, uint64_t file_size) {
  const uint64_t offset = header.refcount_table_offset.value();
  if (offset >= file_size) return 0;
  return std::min(header.refcount_table_bytes(), AlignUp(file_size - offset, kTableEntryBytes));
}

}  // namespace

StoredRefcounts::StoredRefcounts(Disk& disk, const Header& header, const Geometry& geometry)
    : disk_(disk),
      geometry_(geometry),
      table_offset_(header.refcount_table_offset),
      table_(TableBytesInFile(header, disk.size())),
      batch_(disk, geometry.cluster_bytes(), Content::kRefcountBlock) {}

Task<absl::Status> StoredRefcounts::LoadTable() {
  co_return co_await disk_.Read(table_offset_, table_.span(), Content::kRefcountTable);
}

RefcountTableEntry StoredRefcounts::Entry(uint64_t index) const {
  return RefcountTableEntry::FromRaw(LoadBe64At(table_.span(), index));
}

std::optional<HostOffset> StoredRefcounts::BlockAt(uint64_t index) const {
  return index < entries() ? Entry(index).block() : std::nullopt;
}

bool StoredRefcounts::IsReadable(HostOffset block) const {
  return geometry_.IsClusterAligned(block) &&
         block.value() <= kMaxFileOffset - geometry_.cluster_bytes();
}

void StoredRefcounts::CountBlocks(ReferenceCounter& counter) {
  Findings& findings = counter.findings();
  for (uint64_t i = 0; i < entries(); ++i) {
    const RefcountTableEntry entry = Entry(i);
    if (entry.reserved_bits() != 0) {
      findings.Corruption(StrFormat("ERROR refcount table entry %d has reserved bits set", i));
      needs_rebuild_ = true;
      continue;
    }
    const HostOffset block = entry.block().value_or(HostOffset(0));
    if (block == HostOffset(0)) continue;
    if (!geometry_.IsClusterAligned(block)) {
      findings.Corruption(StrFormat(
          "ERROR refcount block %d is not cluster aligned; refcount table entry corrupted", i));
      needs_rebuild_ = true;
      continue;
    }
    const ClusterIndex cluster = geometry_.ClusterOf(block);
    if (cluster.value() >= counter.clusters()) {
      findings.Corruption(StrFormat("ERROR refcount block %d is outside image", i));
      has_block_outside_ = true;
      continue;
    }
    counter.AddRange(block, geometry_.cluster_bytes());
    if (const uint64_t references = counter.counts().Get(cluster); references != 1) {
      findings.Corruption(StrFormat("ERROR refcount block %d refcount=%d", i, references));
      needs_rebuild_ = true;
    }
  }
}

std::optional<HostOffset> StoredRefcounts::ReadableBlockAt(uint64_t index) const {
  const std::optional<HostOffset> block = BlockAt(index);
  return block && IsReadable(*block) && !unreadable_blocks_.contains(index) ? block : std::nullopt;
}

Task<void> StoredRefcounts::Compare(ReferenceCounter& counter, Comparison how) {
  how_ = how;
  unreadable_blocks_.clear();
  const uint64_t end = DivideRoundUp(counter.clusters(), geometry_.refcount_block_entries());
  uint64_t i = 0;
  while (i < end) {
    const uint64_t batch_end = FillBatch(i, end);
    co_await batch_.Read();
    auto table = batch_.tables().begin();
    for (; i < batch_end; ++i) {
      const ClusterIndex first = geometry_.FirstClusterOfRefcountBlock(i);
      const ClusterIndex last(
          std::min(first.value() + geometry_.refcount_block_entries(), counter.clusters()));
      const bool was_read = table != batch_.tables().end() && table->tag == i;
      if (!BlockAt(i)) {
        CompareWithNone(counter, {first, last});
      } else if (was_read && table->status.ok()) {
        CompareBlock(counter, {first, last}, table->bytes());
      } else {
        ReportUnreadable(counter.findings(), i, {first, last},
                         was_read ? ErrnoOf(table->status) : EIO);
      }
      if (was_read) ++table;
    }
  }
  counter.findings().result.image_end_offset = (highest_cluster_ + 1) << geometry_.cluster_bits();
}

uint64_t StoredRefcounts::FillBatch(uint64_t begin, uint64_t end) {
  batch_.Clear();
  uint64_t i = begin;
  for (; i < end && !batch_.full(); ++i) {
    const std::optional<HostOffset> block = BlockAt(i);
    if (block && IsReadable(*block)) batch_.Add(*block, i);
  }
  return i;
}

void StoredRefcounts::CompareBlock(ReferenceCounter& counter, BlockRange range,
                                   std::span<const std::byte> block) {
  uint64_t index = 0;
  for (ClusterIndex cluster = range.begin; cluster < range.end; ++cluster) {
    CompareCluster(counter, cluster, GetRefcount(block, index++, geometry_.refcount_order()),
                   counter.counts().Get(cluster));
  }
}

void StoredRefcounts::CompareWithNone(ReferenceCounter& counter, BlockRange range) {
  std::optional<ClusterIndex> cluster = counter.counts().NextCounted(range.begin);
  while (cluster && *cluster < range.end) {
    CompareCluster(counter, *cluster, 0, counter.counts().Get(*cluster));
    cluster = counter.counts().NextCounted(*cluster + 1);
  }
}

void StoredRefcounts::CompareCluster(ReferenceCounter& counter, ClusterIndex cluster,
                                     uint64_t refcount, uint64_t references) {
  if (refcount != 0 || references != 0) highest_cluster_ = cluster.value();
  if (refcount == references) return;
  const auto line = [&](absl::string_view what) {
    return StrFormat("%s cluster %d refcount=%d reference=%d", what, cluster.value(), refcount,
                     references);
  };
  if (refcount == 0) needs_rebuild_ = true;
  if (refcount < references) {
    if (how_.fixes_corruptions) return counter.findings().FixedCorruption(line("Repairing"));
    counter.findings().Corruption(line("ERROR"));
  } else {
    if (how_.fixes_leaks) return counter.findings().FixedLeak(line("Repairing"));
    counter.findings().Leak(line("Leaked"));
  }
  if (references != 0 && !how_.keeps_references) counter.counts().Set(cluster, refcount);
}

void StoredRefcounts::ReportUnreadable(Findings& findings, uint64_t index, BlockRange range,
                                       int error) {
  unreadable_blocks_.insert(index);
  const HostOffset block = BlockAt(index).value_or(HostOffset(0));
  if (!geometry_.IsClusterAligned(block) && !reported_unaligned_) {
    reported_unaligned_ = true;
    findings.Report(StrFormat(
        "qcow2: Image is corrupt: Refblock offset %#x unaligned (reftable index: %#x); further "
        "non-fatal corruption events will be suppressed",
        block.value(), index));
  }
  for (ClusterIndex cluster = range.begin; cluster < range.end; ++cluster) {
    findings.Error(
        StrFormat("Can't get refcount for cluster %d: %s", cluster.value(), std::strerror(error)));
  }
}

Task<std::optional<uint64_t>> StoredRefcounts::Read(ClusterIndex cluster) {
  const std::optional<HostOffset> block = BlockAt(geometry_.RefcountTableIndex(cluster));
  if (!block) co_return 0;
  if (!IsReadable(*block)) co_return std::nullopt;
  // The smallest piece that any disk reads: a hostile image asks for one in each block.
  const uint64_t in_sector = RefcountsIn(kSectorBytes, geometry_.refcount_order());
  const uint64_t index = geometry_.RefcountBlockIndex(cluster);
  std::array<std::byte, kSectorBytes> sector = {};
  const absl::Status status = co_await disk_.Read(*block + index / in_sector * kSectorBytes, sector,
                                                  Content::kRefcountBlock);
  if (!status.ok()) co_return std::nullopt;
  co_return GetRefcount(sector, index % in_sector, geometry_.refcount_order());
}

}  // namespace ringcow
