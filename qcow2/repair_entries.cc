#include "qcow2/repair_entries.h"

#include <algorithm>
#include <cstddef>

#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/l2_entry.h"

namespace ringcow {
Task<absl::Status> EntryRepairVisitor::VisitL1Entry(uint64_t /*raw*/, uint64_t /*index*/,
                                                    uint64_t /*weight*/) {
  co_return absl::OkStatus();
}

Task<absl::Status> EntryRepairVisitor::VisitL2Table(HostOffset offset,
                                                    std::span<const std::byte> table,
                                                    const L2Use& use) {
  const Geometry& geometry = counter_.geometry();
  const bool extended = geometry.extended_l2();
  const size_t words = extended ? 2 : 1;
  const bool may_write = offset != HostOffset(0) && counter_.IsClaimedBy(offset, use.weight);
  AlignedBuffer repaired;  // the table, when there is something to repair
  for (size_t i = 0; i < geometry.l2_entries(); ++i) {
    const uint64_t raw = LoadBe64At(table, i * words);
    const uint64_t subclusters = extended ? LoadBe64At(table, i * words + 1) : 0;
    if (!IsUnalignedZero(geometry, external_data_, raw, subclusters)) continue;
    if (!may_write) {
      CountAsItIs(raw, use);
      continue;
    }
    if (!repaired) {
      repaired = AlignedBuffer(table.size());
      std::ranges::copy(table, repaired.span().begin());
    }
    // An extended entry's bitmap goes on saying which subclusters read as zeroes.
    const L2Entry zero = extended ? L2Entry::Unallocated() : L2Entry::ZeroPlain();
    StoreBe64At(repaired.span(), i * words, zero.raw());
    counter_.findings().FixedCorruption(UnalignedEntryLine("Repairing", raw, /*has_data=*/false));
  }
  if (repaired) CO_RETURN_IF_ERROR(co_await disk_.Write(offset, repaired.span(), Content::kL2));
  co_return absl::OkStatus();
}

void EntryRepairVisitor::CountAsItIs(uint64_t raw, const L2Use& use) {
  counter_.findings().Corruption(UnalignedEntryLine("ERROR", raw, /*has_data=*/false), use.weight);
  Findings::Add(counter_.findings().result.allocated_clusters, use.active_weight);
  if (external_data_) return;
  counter_.AddRange(L2Entry::FromRaw(raw).host_offset().value_or(HostOffset(0)),
                    counter_.geometry().cluster_bytes(), use.weight);
}

}  // namespace ringcow
