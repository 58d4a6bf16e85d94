#include "qcow2/check_copied.h"

#include "absl/strings/str_format.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/l2_entry.h"

namespace ringcow {

std::optional<uint64_t> CopiedVisitor::CountedRefcount(HostOffset offset) const {
  const ClusterIndex cluster = counter_.geometry().ClusterOf(offset);
  if (refcounts_.IsUnreadable(cluster)) return std::nullopt;
  return counter_.counts().Get(cluster);
}

Task<absl::Status> CopiedVisitor::VisitL1Entry(uint64_t raw, uint64_t index, uint64_t /*weight*/) {
  const L1Entry entry = L1Entry::FromRaw(raw);
  const std::optional<HostOffset> l2_table = entry.l2_table();
  if (!l2_table) co_return absl::OkStatus();
  std::optional<uint64_t> refcount;
  if (IsCounted(*l2_table)) {
    refcount = CountedRefcount(*l2_table);
  } else {
    refcount = co_await refcounts_.Read(counter_.geometry().ClusterOf(*l2_table));
  }
  if (refcount && (*refcount == 1) != entry.copied()) {
    counter_.findings().Corruption(
        absl::StrFormat("ERROR OFLAG_COPIED L2 cluster: l1_index=%d l1_entry=%x refcount=%d", index,
                        raw, *refcount));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CopiedVisitor::VisitL2Table(HostOffset offset, std::span<const std::byte> table,
                                               const L2Use& use) {
  // An L1 entry with flags only was reported; the header is no L2 table.
  if (offset == HostOffset(0)) co_return absl::OkStatus();
  const Geometry& geometry = counter_.geometry();
  const size_t words = geometry.extended_l2() ? 2 : 1;
  for (size_t i = 0; i < geometry.l2_entries(); ++i) {
    const uint64_t raw = LoadBe64At(table, i * words);
    if (raw == 0) continue;
    const L2Entry::Kind kind = KindForCheck(raw, geometry.extended_l2(), external_data_);
    if (kind != L2Entry::Kind::kNormal && kind != L2Entry::Kind::kZeroAllocated) continue;
    const L2Entry entry = L2Entry::FromRaw(raw);
    const HostOffset data = entry.host_offset().value_or(HostOffset(0));
    std::optional<uint64_t> refcount = 1;
    if (external_data_) {
      // Clusters of that file have no refcounts; all of them may be written in place.
    } else if (IsCounted(data)) {
      refcount = CountedRefcount(data);
    } else {
      refcount = co_await refcounts_.Read(geometry.ClusterOf(data));
    }
    if (refcount && (*refcount == 1) != entry.copied()) {
      counter_.findings().Corruption(
          absl::StrFormat("ERROR OFLAG_COPIED data cluster: l2_entry=%x refcount=%d", raw,
                          *refcount),
          use.active_weight);
    }
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
