#include "qcow2/check_table_walk.h"

#include <algorithm>

#include "engine/invariant.h"
#include "engine/status_macros.h"
#include "qcow2/check_findings.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/limits.h"

namespace ringcow {
namespace {

constexpr size_t kSliceBytes = size_t{256} << 10;

HostOffset L2TableOf(uint64_t raw) {
  return L1Entry::FromRaw(raw).l2_table().value_or(HostOffset(0));
}

}  // namespace

TableWalk::TableWalk(Disk& disk, const Geometry& geometry,
                     const std::vector<WeightedRange>& l1_tables)
    : disk_(disk),
      geometry_(geometry),
      l1_ranges_(SplitOverlaps(l1_tables)),
      slice_(kSliceBytes),
      batch_(disk, geometry.cluster_bytes(), Content::kL2) {
  if (!l1_tables.empty() && l1_tables.front().active) active_begin_ = l1_tables.front().begin;
  const uint64_t file_end = AlignUp(disk.size(), kTableEntryBytes);
  for (WeightedRange& range : l1_ranges_) range.end = std::min(range.end, file_end);
  std::erase_if(l1_ranges_, [](const WeightedRange& range) { return range.begin >= range.end; });
}

std::span<std::byte> TableWalk::SliceAt(uint64_t offset, const WeightedRange& range) const {
  return slice_.span().first(std::min<uint64_t>(kSliceBytes, range.end - offset));
}

bool TableWalk::IsFollowed(HostOffset l2_table) const {
  return geometry_.IsClusterAligned(l2_table) && l2_table.value() < disk_.size();
}

Task<absl::Status> TableWalk::CountUses() {
  for (const WeightedRange& range : l1_ranges_) {
    for (uint64_t at = range.begin; at < range.end; at += kSliceBytes) {
      const std::span<std::byte> slice = SliceAt(at, range);
      CO_RETURN_IF_ERROR(co_await disk_.Read(HostOffset(at), slice, Content::kL1));
      Count(slice, range);
    }
  }
  co_return absl::OkStatus();
}

void TableWalk::Count(std::span<const std::byte> slice, const WeightedRange& range) {
  for (size_t i = 0; i < slice.size() / kTableEntryBytes; ++i) {
    const uint64_t raw = LoadBe64At(slice, i);
    if (raw == 0 || !IsFollowed(L2TableOf(raw))) continue;
    L2Use& use = uses_[L2TableOf(raw)];
    Findings::Add(use.weight, range.weight);
    if (range.active) ++use.active_weight;
  }
}

Task<absl::Status> TableWalk::VisitActive(TableVisitor& visitor) {
  for (const WeightedRange& range : l1_ranges_) {
    if (range.active) CO_RETURN_IF_ERROR(co_await VisitRange(range, visitor));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> TableWalk::VisitSnapshots(TableVisitor& visitor) {
  for (const WeightedRange& range : l1_ranges_) {
    if (!range.active) CO_RETURN_IF_ERROR(co_await VisitRange(range, visitor));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> TableWalk::VisitRange(WeightedRange range, TableVisitor& visitor) {
  for (uint64_t at = range.begin; at < range.end; at += kSliceBytes) {
    const std::span<std::byte> slice = SliceAt(at, range);
    CO_RETURN_IF_ERROR(co_await disk_.Read(HostOffset(at), slice, Content::kL1));
    CO_RETURN_IF_ERROR(
        co_await VisitSlice(slice, (at - active_begin_) / kTableEntryBytes, range.weight, visitor));
  }
  co_return absl::OkStatus();
}

size_t TableWalk::FillBatch(std::span<const std::byte> slice, size_t begin) {
  batch_.Clear();
  for (size_t i = begin; i < slice.size() / kTableEntryBytes; ++i) {
    const uint64_t raw = LoadBe64At(slice, i);
    if (raw == 0) continue;
    const auto use = uses_.find(L2TableOf(raw));
    if (use == uses_.end() || use->second.last_pass == pass_) continue;
    if (batch_.full()) return i;
    use->second.last_pass = pass_;
    batch_.Add(use->first, i);
  }
  return slice.size() / kTableEntryBytes;
}

Task<absl::Status> TableWalk::VisitSlice(std::span<const std::byte> slice, uint64_t first_index,
                                         uint64_t weight, TableVisitor& visitor) {
  size_t i = 0;
  while (i < slice.size() / kTableEntryBytes) {
    const size_t end = FillBatch(slice, i);
    co_await batch_.Read();
    auto table = batch_.tables().begin();
    for (; i < end; ++i) {
      const uint64_t raw = LoadBe64At(slice, i);
      if (raw == 0) continue;
      CO_RETURN_IF_ERROR(co_await visitor.VisitL1Entry(raw, first_index + i, weight));
      if (table == batch_.tables().end() || table->tag != i) continue;
      CO_RETURN_IF_ERROR(table->status);
      CO_RETURN_IF_ERROR(
          co_await visitor.VisitL2Table(table->offset, table->bytes(), uses_.at(table->offset)));
      ++table;
    }
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
