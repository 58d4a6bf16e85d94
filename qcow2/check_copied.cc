#include "qcow2/check_copied.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/l2_entry.h"

namespace ringcow {

std::optional<uint64_t> CopiedVisitor::CountedRefcount(HostOffset offset) const {
  const ClusterIndex cluster = counter_.geometry().ClusterOf(offset);
  if (refcounts_.IsUnreadable(cluster)) return std::nullopt;
  return counter_.counts().Get(cluster);
}

Task<std::optional<uint64_t>> CopiedVisitor::RefcountOf(HostOffset offset) {
  if (IsCounted(offset)) co_return CountedRefcount(offset);
  co_return co_await refcounts_.Read(counter_.geometry().ClusterOf(offset));
}

bool CopiedVisitor::MayWrite(HostOffset offset, uint64_t uses) const {
  return options_.repair == CopiedRepair::kYes && counter_.IsClaimedBy(offset, uses);
}

Task<absl::Status> CopiedVisitor::VisitL1Entry(uint64_t raw, uint64_t index, uint64_t /*weight*/) {
  const L1Entry entry = L1Entry::FromRaw(raw);
  const std::optional<HostOffset> l2_table = entry.l2_table();
  if (!l2_table) co_return absl::OkStatus();
  const std::optional<uint64_t> refcount = co_await RefcountOf(*l2_table);
  if (!refcount || (*refcount == 1) == entry.copied()) co_return absl::OkStatus();

  const auto line = [&](absl::string_view what) {
    return absl::StrFormat("%s OFLAG_COPIED L2 cluster: l1_index=%d l1_entry=%x refcount=%d", what,
                           index, raw, *refcount);
  };
  const HostOffset place = options_.l1_table + index * kTableEntryBytes;
  if (!MayWrite(place, 1)) {
    counter_.findings().Corruption(line("ERROR"));
    co_return absl::OkStatus();
  }
  std::array<std::byte, kTableEntryBytes> bytes = {};
  StoreBe64At(bytes, 0, entry.WithCopied(!entry.copied()).raw());
  CO_RETURN_IF_ERROR(co_await disk_.Write(place, bytes, Content::kL1));
  counter_.findings().FixedCorruption(line("Repairing"));
  co_return absl::OkStatus();
}

Task<absl::Status> CopiedVisitor::VisitL2Table(HostOffset offset, std::span<const std::byte> table,
                                               const L2Use& use) {
  // An L1 entry with flags only was reported; the header is no L2 table.
  if (offset == HostOffset(0)) co_return absl::OkStatus();
  const Geometry& geometry = counter_.geometry();
  const size_t words = geometry.extended_l2() ? 2 : 1;
  const bool may_write = MayWrite(offset, use.weight);
  AlignedBuffer repaired;  // the table, when there is something to repair
  for (size_t i = 0; i < geometry.l2_entries(); ++i) {
    const uint64_t raw = LoadBe64At(table, i * words);
    if (raw == 0) continue;
    const L2Entry::Kind kind = KindForCheck(raw, geometry.extended_l2(), options_.external_data);
    if (kind != L2Entry::Kind::kNormal && kind != L2Entry::Kind::kZeroAllocated) continue;
    const L2Entry entry = L2Entry::FromRaw(raw);
    std::optional<uint64_t> refcount = 1;
    // Clusters of an external file have no refcounts; all of them may be written in place.
    if (!options_.external_data) {
      refcount = co_await RefcountOf(entry.host_offset().value_or(HostOffset(0)));
    }
    if (!refcount || (*refcount == 1) == entry.copied()) continue;
    const auto line = [&](absl::string_view what) {
      return absl::StrFormat("%s OFLAG_COPIED data cluster: l2_entry=%x refcount=%d", what, raw,
                             *refcount);
    };
    if (!may_write) {
      counter_.findings().Corruption(line("ERROR"), use.active_weight);
      continue;
    }
    if (!repaired) {
      repaired = AlignedBuffer(table.size());
      std::copy(table.begin(), table.end(), repaired.span().begin());
    }
    StoreBe64At(repaired.span(), i * words, entry.WithCopied(!entry.copied()).raw());
    counter_.findings().FixedCorruption(line("Repairing"));
  }
  if (repaired) CO_RETURN_IF_ERROR(co_await disk_.Write(offset, repaired.span(), Content::kL2));
  co_return absl::OkStatus();
}

}  // namespace ringcow
