#include "qcow2/check_references.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

using absl::StrFormat;

// The bitmap of an extended L2 entry: which subclusters are allocated, and which read as zeroes.
constexpr uint64_t kAllocatedSubclusters = 0xffffffff;
constexpr int kZeroSubclustersShift = 32;

}  // namespace

ReferenceCounter::ReferenceCounter(const Geometry& geometry, uint64_t file_size, Findings& findings)
    : geometry_(geometry),
      file_size_(AlignUp(file_size, kSectorBytes)),
      findings_(findings),
      clusters_(geometry.ClustersFor(file_size_)),
      counts_(geometry.max_refcount()) {}

bool ReferenceCounter::IsClaimedBy(HostOffset offset, uint64_t uses) const {
  return offset.value() < file_size_ && counts_.Get(geometry_.ClusterOf(offset)) == uses;
}

bool ReferenceCounter::EndsBeyondFile(HostOffset offset, uint64_t bytes) const {
  const uint64_t limit = file_size_ + geometry_.cluster_bytes();
  return bytes >= limit || offset.value() >= limit - bytes;
}

void ReferenceCounter::AddRange(HostOffset offset, uint64_t bytes, uint64_t weight) {
  if (bytes == 0) return;
  if (EndsBeyondFile(offset, bytes)) {
    found_beyond_file_ = true;
    findings_.Corruption(StrFormat("ERROR: counting reference for region exceeding the end of the "
                                   "file by one cluster or more: offset %#x size %#x",
                                   offset.value(), bytes),
                         weight);
    return;
  }
  AddClusters(geometry_.ClusterOf(offset).value(),
              geometry_.ClusterOf(offset + (bytes - 1)).value() + 1, weight);
}

void ReferenceCounter::AddTables(const std::vector<WeightedRange>& tables) {
  std::vector<WeightedRange> whole_clusters;
  for (const WeightedRange& table : tables) {
    const HostOffset begin(table.begin);
    const uint64_t bytes = table.end - table.begin;
    if (bytes == 0 || EndsBeyondFile(begin, bytes)) {
      AddRange(begin, bytes, table.weight);
      continue;
    }
    whole_clusters.push_back({.begin = geometry_.ClusterOf(begin).value(),
                              .end = geometry_.ClusterOf(begin + (bytes - 1)).value() + 1,
                              .weight = table.weight});
  }
  for (const WeightedRange& range : SplitOverlaps(whole_clusters)) {
    AddClusters(range.begin, range.end, range.weight);
  }
}

void ReferenceCounter::AddClusters(uint64_t begin, uint64_t end, uint64_t weight) {
  clusters_ = std::max(clusters_, end);
  for (ClusterIndex cluster(begin); cluster.value() < end; ++cluster) {
    const uint64_t excess = counts_.Add(cluster, weight);
    if (excess == 0) continue;
    findings_.Corruption(
        StrFormat("ERROR: overflow cluster offset=%#x", geometry_.OffsetOf(cluster).value()),
        excess);
    findings_.Report(
        "Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a "
        "clean copy if the image cannot be opened for writing",
        excess);
  }
}

L2Entry::Kind KindForCheck(uint64_t raw, bool extended_l2, bool external_data) {
  const L2Entry entry = L2Entry::FromRaw(raw);
  L2Entry::Kind kind = entry.kind();
  const bool is_at_zero = entry.host_offset() == HostOffset(0);
  if (kind == L2Entry::Kind::kNormal && is_at_zero && !external_data) {
    kind = L2Entry::Kind::kUnallocated;
  }
  if (extended_l2 && kind == L2Entry::Kind::kZeroAllocated) kind = L2Entry::Kind::kNormal;
  if (extended_l2 && kind == L2Entry::Kind::kZeroPlain) kind = L2Entry::Kind::kUnallocated;
  if (external_data && kind == L2Entry::Kind::kUnallocated && entry.copied()) {
    kind = L2Entry::Kind::kNormal;
  }
  return kind;
}

bool IsUnalignedZero(const Geometry& geometry, bool external_data, uint64_t raw,
                     uint64_t subclusters) {
  const L2Entry entry = L2Entry::FromRaw(raw);
  const L2Entry::Kind kind = KindForCheck(raw, geometry.extended_l2(), external_data);
  if (kind != L2Entry::Kind::kNormal && kind != L2Entry::Kind::kZeroAllocated) return false;
  if (geometry.IsClusterAligned(entry.host_offset().value_or(HostOffset(0)))) return false;
  // Bits that are both are a fault of their own.
  if (((subclusters >> kZeroSubclustersShift) & subclusters) != 0) return false;
  return geometry.extended_l2() ? (subclusters & kAllocatedSubclusters) == 0
                                : kind == L2Entry::Kind::kZeroAllocated;
}

std::string UnalignedEntryLine(absl::string_view what, uint64_t raw, bool has_data) {
  return StrFormat("%s offset=%x: %s cluster is not properly aligned; L2 entry corrupted.", what,
                   L2Entry::FromRaw(raw).host_offset().value_or(HostOffset(0)).value(),
                   has_data ? "Data" : "Preallocated");
}

Task<absl::Status> ReferenceVisitor::VisitL1Entry(uint64_t raw, uint64_t /*index*/,
                                                  uint64_t weight) {
  const L1Entry entry = L1Entry::FromRaw(raw);
  Findings& findings = counter_.findings();
  if (entry.reserved_bits() != 0) {
    findings.Corruption(StrFormat("ERROR found L1 entry with reserved bits set: %x", raw), weight);
  }
  const HostOffset l2_table = entry.l2_table().value_or(HostOffset(0));
  counter_.AddRange(l2_table, counter_.geometry().cluster_bytes(), weight);
  if (!counter_.geometry().IsClusterAligned(l2_table)) {
    findings.Corruption(
        StrFormat("ERROR l2_offset=%x: Table is not cluster aligned; L1 entry corrupted",
                  l2_table.value()),
        weight);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ReferenceVisitor::VisitL2Table(HostOffset /*offset*/,
                                                  std::span<const std::byte> table,
                                                  const L2Use& use) {
  const bool extended = counter_.geometry().extended_l2();
  const size_t words = extended ? 2 : 1;
  HostOffset next_contiguous;
  for (size_t i = 0; i < counter_.geometry().l2_entries(); ++i) {
    const Place place = {.raw = LoadBe64At(table, i * words),
                         .subclusters = extended ? LoadBe64At(table, i * words + 1) : 0,
                         .index = i};
    if ((place.raw | place.subclusters) != 0) CheckEntry(place, use, next_contiguous);
  }
  co_return absl::OkStatus();
}

void ReferenceVisitor::CheckEntry(const Place& place, const L2Use& use,
                                  HostOffset& next_contiguous) {
  if (L2Entry::FromRaw(place.raw).reserved_bits() != 0) {
    counter_.findings().Corruption(
        StrFormat("ERROR found l2 entry with reserved bits set: %x", place.raw), use.weight);
  }
  switch (KindForCheck(place.raw, counter_.geometry().extended_l2(), external_data_)) {
    case L2Entry::Kind::kCompressed:
      return CheckCompressed(place, use);
    case L2Entry::Kind::kNormal:
    case L2Entry::Kind::kZeroAllocated:
      return CheckAllocated(place, use, next_contiguous);
    case L2Entry::Kind::kUnallocated:
      if ((place.subclusters & kAllocatedSubclusters) != 0) {
        counter_.findings().Corruption(
            "ERROR: Unallocated cluster has non-zero subcluster allocation map", use.weight);
      }
      return;
    case L2Entry::Kind::kZeroPlain:
      return;
  }
}

void ReferenceVisitor::CheckCompressed(const Place& place, const L2Use& use) {
  const L2Entry entry = L2Entry::FromRaw(place.raw);
  const CompressedExtent extent =
      entry.compressed_extent(counter_.geometry()).value_or(CompressedExtent{});
  Findings& findings = counter_.findings();
  if (entry.copied()) {
    findings.Corruption(
        StrFormat("ERROR: coffset=%#x: copied flag must never be set for compressed clusters",
                  extent.offset.value()),
        use.weight);
  }
  const uint64_t raw = entry.WithCopied(false).raw();
  if (external_data_) {
    return findings.Corruption(
        StrFormat("ERROR compressed cluster %d with data file, entry=%#x", place.index, raw),
        use.weight);
  }
  if (place.subclusters != 0) {
    return findings.Corruption(
        StrFormat("ERROR compressed cluster %d with non-zero subcluster allocation bitmap, "
                  "entry=%#x",
                  place.index, raw),
        use.weight);
  }
  counter_.AddRange(extent.offset, extent.bytes, use.weight);
  // Compressed clusters share sectors, so that each costs a read of its own.
  Findings::Add(findings.result.allocated_clusters, use.active_weight);
  Findings::Add(findings.result.compressed_clusters, use.active_weight);
  Findings::Add(findings.result.fragmented_clusters, use.active_weight);
}

void ReferenceVisitor::CheckAllocated(const Place& place, const L2Use& use,
                                      HostOffset& next_contiguous) {
  const Geometry& geometry = counter_.geometry();
  Findings& findings = counter_.findings();
  const L2Entry entry = L2Entry::FromRaw(place.raw);
  const HostOffset offset = entry.host_offset().value_or(HostOffset(0));
  if (((place.subclusters >> kZeroSubclustersShift) & place.subclusters) != 0) {
    findings.Corruption(
        StrFormat("ERROR offset=%x: Allocated cluster has corrupted subcluster allocation bitmap",
                  offset.value()),
        use.weight);
  }
  if (!geometry.IsClusterAligned(offset)) {
    const bool is_zero = IsUnalignedZero(geometry, external_data_, place.raw, place.subclusters);
    if (is_zero && leaves_unaligned_zeroes_) {
      left_unaligned_zeroes_ = true;
      return;
    }
    findings.Corruption(UnalignedEntryLine("ERROR", place.raw, !is_zero), use.weight);
  }
  Findings::Add(findings.result.allocated_clusters, use.active_weight);
  if (next_contiguous != HostOffset(0) && offset != next_contiguous) {
    Findings::Add(findings.result.fragmented_clusters, use.active_weight);
  }
  next_contiguous = offset + geometry.cluster_bytes();
  if (!external_data_) counter_.AddRange(offset, geometry.cluster_bytes(), use.weight);
}

}  // namespace ringcow
