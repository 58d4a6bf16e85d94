#include "qcow2/overlap_guard.h"

#include <algorithm>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "qcow2/corruption.h"
#include "qcow2/format/units.h"
#include "qcow2/metadata.h"

namespace ringcow {
namespace {

constexpr absl::string_view kUnguardedPayload = "ringcow/unguarded";

bool Overlap(OverlapGuard::Range a, OverlapGuard::Range b) {
  return a.begin < b.end && b.begin < a.end;
}

}  // namespace

void OverlapGuard::DoNotKnowSnapshotL2Tables(absl::Status why) {
  snapshot_l2_tables_.clear();
  unknown_ = std::move(why);
  unknown_.SetPayload(kUnguardedPayload, absl::Cord());
}

bool IsUnguarded(const absl::Status& status) {
  return status.GetPayload(kUnguardedPayload).has_value();
}

void OverlapGuard::SetSnapshotL1Tables(std::vector<Range> places) {
  std::ranges::sort(places, {}, &Range::begin);
  snapshot_l1_tables_ = std::move(places);
}

absl::Status OverlapGuard::BeforeWrite(HostOffset begin, uint64_t length, Own own) const {
  if (!check_.has_any() || length == 0) return absl::OkStatus();
  const char* what = WhatIsIn({begin, begin + length}, own);
  if (what == nullptr) return unknown_;
  return WithOverlap(
      absl::InvalidArgumentError(absl::StrFormat("'%s': host offset %#x: %s", metadata_.disk.name(),
                                                 begin.value(), OverlapSentence(what))),
      what);
}

const char* OverlapGuard::WhatIsIn(Range range, Own own) const {
  if (check_.Has(OverlapCheck::kMainHeader) &&
      range.begin.value() < metadata_.geometry.cluster_bytes()) {
    return "qcow2_header";
  }
  const char* what = WhatTablesAreIn(range, own);
  return what != nullptr ? what : WhatOthersAreIn(range, own);
}

const char* OverlapGuard::WhatTablesAreIn(Range range, Own own) const {
  const ResidentTable& l1 = metadata_.l1;
  const ResidentTable& refcounts = metadata_.refcount_table;
  if (check_.Has(OverlapCheck::kActiveL1) && own != Own::kL1 &&
      Overlap(range, {l1.offset(), l1.end()})) {
    return "active L1 table";
  }
  if (check_.Has(OverlapCheck::kActiveL2) && own != Own::kL2 &&
      AnyClusterOf(range, [&l1](HostOffset cluster) { return l1.Names(cluster); })) {
    return "active L2 table";
  }
  if (check_.Has(OverlapCheck::kRefcountTable) && own != Own::kRefcountTable &&
      Overlap(range, {refcounts.offset(), refcounts.end()})) {
    return "refcount table";
  }
  if (check_.Has(OverlapCheck::kRefcountBlock) && own != Own::kRefcountBlock &&
      AnyClusterOf(range, [&refcounts](HostOffset cluster) { return refcounts.Names(cluster); })) {
    return "refcount block";
  }
  return nullptr;
}

const char* OverlapGuard::WhatOthersAreIn(Range range, Own own) const {
  if (check_.Has(OverlapCheck::kSnapshotTable) && Overlap(range, snapshot_table_)) {
    return "snapshot table";
  }
  if (check_.Has(OverlapCheck::kInactiveL1) && HasSnapshotL1In(range)) return "inactive L1 table";
  if (!snapshot_l2_tables_.empty() && AnyClusterOf(range, [this](HostOffset cluster) {
        return snapshot_l2_tables_.contains(cluster.value());
      })) {
    return "inactive L2 table";
  }
  if (check_.Has(OverlapCheck::kBitmapDirectory) && own != Own::kBitmapDirectory &&
      Overlap(range, bitmap_directory_)) {
    return "bitmap directory";
  }
  return nullptr;
}

template <typename Predicate>
bool OverlapGuard::AnyClusterOf(Range range, Predicate names) const {
  const uint64_t cluster_bytes = metadata_.geometry.cluster_bytes();
  for (HostOffset at = AlignDown(range.begin, cluster_bytes); at < range.end;
       at = at + cluster_bytes) {
    if (names(at)) return true;
  }
  return false;
}

// They are disjoint, unless the image is damaged; then one of them may be missed.
bool OverlapGuard::HasSnapshotL1In(Range range) const {
  const auto behind = std::ranges::lower_bound(snapshot_l1_tables_, range.end, {}, &Range::begin);
  return behind != snapshot_l1_tables_.begin() && Overlap(range, *std::prev(behind));
}

}  // namespace ringcow
