#include "qcow2/overlap_guard.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "qcow2/corruption.h"
#include "qcow2/format/units.h"
#include "qcow2/metadata.h"

namespace ringcow {
namespace {

bool Overlap(OverlapGuard::Range a, OverlapGuard::Range b) {
  return a.begin < b.end && b.begin < a.end;
}

}  // namespace

void OverlapGuard::SetSnapshotL1Tables(std::vector<Range> places) {
  std::ranges::sort(places, {}, &Range::begin);
  snapshot_l1_tables_ = std::move(places);
}

absl::Status OverlapGuard::BeforeWrite(HostOffset begin, uint64_t length, Own own) const {
  if (check_ == OverlapCheck::kNone || length == 0) return absl::OkStatus();
  const char* what = WhatIsIn({begin, begin + length}, own);
  if (what == nullptr) return absl::OkStatus();
  return WithOverlap(
      absl::InvalidArgumentError(absl::StrFormat("'%s': host offset %#x: %s", metadata_.disk.name(),
                                                 begin.value(), OverlapSentence(what))),
      what);
}

const char* OverlapGuard::WhatIsIn(Range range, Own own) const {
  const bool cached = check_ == OverlapCheck::kCached;
  const ResidentTable& l1 = metadata_.l1;
  const ResidentTable& refcounts = metadata_.refcount_table;
  if (range.begin.value() < metadata_.geometry.cluster_bytes()) return "qcow2_header";
  if (own != Own::kL1 && Overlap(range, {l1.offset(), l1.end()})) return "active L1 table";
  if (cached && own != Own::kL2 && NamesAnyIn(range, /*l2_tables=*/true)) return "active L2 table";
  if (Overlap(range, {refcounts.offset(), refcounts.end()})) return "refcount table";
  if (cached && own != Own::kRefcountBlock && NamesAnyIn(range, /*l2_tables=*/false)) {
    return "refcount block";
  }
  if (Overlap(range, snapshot_table_)) return "snapshot table";
  if (cached && HasSnapshotL1In(range)) return "inactive L1 table";
  if (own != Own::kBitmapDirectory && Overlap(range, bitmap_directory_)) return "bitmap directory";
  return nullptr;
}

bool OverlapGuard::NamesAnyIn(Range range, bool l2_tables) const {
  const ResidentTable& table = l2_tables ? metadata_.l1 : metadata_.refcount_table;
  const uint64_t cluster_bytes = metadata_.geometry.cluster_bytes();
  for (HostOffset at = AlignDown(range.begin, cluster_bytes); at < range.end;
       at = at + cluster_bytes) {
    if (table.Names(at)) return true;
  }
  return false;
}

// They are disjoint, unless the image is damaged; then one of them may be missed.
bool OverlapGuard::HasSnapshotL1In(Range range) const {
  const auto behind = std::ranges::lower_bound(snapshot_l1_tables_, range.end, {}, &Range::begin);
  return behind != snapshot_l1_tables_.begin() && Overlap(range, *std::prev(behind));
}

}  // namespace ringcow
