#include "qcow2/refcount_width.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "qcow2/check.h"
#include "qcow2/check_refcounts.h"
#include "qcow2/format/refcount_block.h"

namespace ringcow {

RefcountWidthChange::RefcountWidthChange(Disk& disk, const Header& header, const Geometry& now,
                                         const Geometry& next)
    : disk_(disk),
      header_(header),
      geometry_(now),
      findings_(CheckOptions()),
      check_(disk, header_, geometry_, findings_),
      next_(next, disk.size(), findings_) {}

absl::Status RefcountWidthChange::Damaged() const {
  return absl::FailedPreconditionError(
      "Cannot change the refcount width of a damaged image: check it first");
}

Task<absl::Status> RefcountWidthChange::Load() {
  CO_RETURN_IF_ERROR(co_await check_.LoadRefcountTable());
  CO_RETURN_IF_ERROR(co_await check_.CountReferences());
  const StoredRefcounts& refcounts = check_.refcounts();
  // What an entry names beyond the end of the file must not come to be there.
  if (check_.stopped() || check_.counter().found_beyond_file() || refcounts.needs_rebuild() ||
      refcounts.has_block_outside()) {
    co_return Damaged();
  }
  const ClusterIndex end(check_.counter().clusters());
  for (uint64_t i = 0; geometry_.FirstClusterOfRefcountBlock(i) < end; ++i) {
    CO_RETURN_IF_ERROR(
        co_await LoadBlock(i, geometry_.FirstClusterOfRefcountBlock(i),
                           std::min(end, geometry_.FirstClusterOfRefcountBlock(i + 1))));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> RefcountWidthChange::LoadBlock(uint64_t index, ClusterIndex begin,
                                                  ClusterIndex end) {
  const std::optional<HostOffset> offset = check_.refcounts().ReadableBlockAt(index);
  if (!offset.has_value()) {
    const std::optional<ClusterIndex> used = check_.counter().counts().NextCounted(begin);
    co_return used.has_value() && *used < end ? Damaged() : absl::OkStatus();
  }
  const AlignedBuffer block(geometry_.cluster_bytes());
  CO_RETURN_IF_ERROR(co_await disk_.Read(*offset, block.span(), Content::kRefcountBlock));
  for (ClusterIndex cluster = begin; cluster < end; ++cluster) {
    CO_RETURN_IF_ERROR(
        Take(cluster, GetRefcount(block.span(), geometry_.RefcountBlockIndex(cluster),
                                  geometry_.refcount_order())));
  }
  co_return absl::OkStatus();
}

absl::Status RefcountWidthChange::Take(ClusterIndex cluster, uint64_t refcount) {
  if (refcount == 0) {
    return check_.counter().counts().Get(cluster) > 0 ? Damaged() : absl::OkStatus();
  }
  if (refcount > next_.geometry().max_refcount()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "Cannot decrease refcount entry width to %d bits: Cluster at offset %#x has a refcount of "
        "%d",
        next_.geometry().refcount_bits(), geometry_.OffsetOf(cluster).value(), refcount));
  }
  next_.counts().Add(cluster, refcount);
  return absl::OkStatus();
}

Task<absl::StatusOr<RefcountTablePlace>> RefcountWidthChange::Write(RefcountProgress progress) {
  co_return co_await BuildRefcounts(disk_, next_, std::move(progress));
}

void RefcountWidthChange::GiveUp(HostOffset offset, uint64_t clusters) {
  const ClusterIndex first = geometry_.ClusterOf(offset);
  for (uint64_t i = 0; i < clusters; ++i) {
    const uint64_t refcount = next_.counts().Get(first + i);
    if (refcount > 0) next_.counts().Set(first + i, refcount - 1);
  }
}

Task<absl::Status> RefcountWidthChange::FreeOld(const Header& header) {
  for (uint64_t i = 0; i < header_.refcount_table_entries(); ++i) {
    const std::optional<HostOffset> block = check_.refcounts().ReadableBlockAt(i);
    if (block.has_value()) GiveUp(*block, 1);
  }
  GiveUp(header_.refcount_table_offset, header_.refcount_table_clusters);
  StoredRefcounts refcounts(disk_, header, next_.geometry());
  CO_RETURN_IF_ERROR(co_await refcounts.LoadTable());
  co_return co_await WriteRefcounts(disk_, refcounts, next_);
}

}  // namespace ringcow
