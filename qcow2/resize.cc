#include "qcow2/resize.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "engine/status_macros.h"
#include "qcow2/active_l1.h"
#include "qcow2/preallocate.h"

namespace ringcow {

Task<absl::Status> Resize::To(uint64_t virtual_size, uint64_t backing_bytes,
                              Preallocation preallocation) {
  const uint64_t old_size = metadata_.geometry.virtual_size();
  CO_ASSIGN_OR_RETURN(const Geometry resized, metadata_.geometry.Resized(virtual_size));
  if (virtual_size < old_size) co_return co_await Shrink(resized);
  if (virtual_size > old_size) {
    co_return co_await Grow(resized, backing_bytes, preallocation);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Resize::Grow(Geometry grown, uint64_t backing_bytes,
                                Preallocation preallocation) {
  const Geometry old = metadata_.geometry;
  if (grown.l1_entries() > metadata_.l1.entries()) {
    std::vector<L1Entry> l1 = ActiveL1(metadata_);
    l1.resize(grown.l1_entries(), L1Entry::Unallocated());
    CO_RETURN_IF_ERROR(co_await ReplaceActiveL1(metadata_, allocator_, std::move(l1), old));
  }
  metadata_.geometry = grown;
  absl::Status status = co_await FillNew(old.virtual_size(), backing_bytes, preallocation);
  if (status.ok()) status = co_await metadata_.write_back.Flush();
  if (status.ok()) co_return co_await StoreSize();
  metadata_.geometry = old;
  co_return status;
}

Task<absl::Status> Resize::FillNew(uint64_t old_size, uint64_t backing_bytes,
                                   Preallocation preallocation) {
  const Geometry& geometry = metadata_.geometry;
  // What lies behind the end in the last cluster is nobody's; and what the backing file holds
  // there was never the guest's.
  const uint64_t cluster_end = AlignUp(old_size, geometry.cluster_bytes());
  const uint64_t zero_end = std::min(geometry.virtual_size(), std::max(cluster_end, backing_bytes));
  if (zero_end > old_size) {
    CO_RETURN_IF_ERROR(co_await MakeZero(GuestOffset(old_size), GuestOffset(zero_end)));
  }
  if (cluster_end >= geometry.virtual_size()) co_return absl::OkStatus();
  co_return co_await Preallocate(metadata_, allocator_, mapper_, GuestOffset(cluster_end),
                                 metadata_.clusters_end, preallocation);
}

Task<absl::Status> Resize::Shrink(Geometry shrunk) {
  const uint64_t end = AlignUp(shrunk.virtual_size(), shrunk.cluster_bytes());
  const uint64_t old_end = metadata_.geometry.virtual_size();
  const uint64_t zero_end = std::min(end, old_end);
  if (zero_end > shrunk.virtual_size()) {
    CO_RETURN_IF_ERROR(
        co_await MakeZero(GuestOffset(shrunk.virtual_size()), GuestOffset(zero_end)));
  }
  if (end < old_end) {
    CO_RETURN_IF_ERROR(co_await zeroer_.Unmap(GuestOffset(end), old_end - end));
  }
  UnlinkL2Tables(shrunk.l1_entries());
  CO_RETURN_IF_ERROR(co_await metadata_.write_back.Flush());
  metadata_.geometry = shrunk;
  co_return co_await StoreSize();
}

Task<absl::Status> Resize::MakeZero(GuestOffset begin, GuestOffset end) {
  CO_ASSIGN_OR_RETURN(const bool are_zero, co_await reader_.AreKnownZero(begin, end - begin));
  if (are_zero) co_return absl::OkStatus();
  co_return co_await zeroer_.WriteZeroes(begin, end - begin, ZeroManner::kKeepSpace);
}

// They are empty by now, or were never reached by the guest.
void Resize::UnlinkL2Tables(uint64_t first_l1_index) {
  for (uint64_t i = first_l1_index; i < metadata_.l1.entries(); ++i) {
    const L1Entry entry = L1Entry::FromRaw(metadata_.l1.Get(i));
    const std::optional<HostOffset> l2_table = entry.l2_table();
    if (!l2_table.has_value() || !entry.Validate(metadata_.geometry, i).ok()) continue;
    metadata_.l1.Set(i, L1Entry::Unallocated().raw());
    frees_.Add({metadata_.geometry.ClusterOf(*l2_table), 1}, DeferredFrees::Was::kL2Table);
  }
}

Task<absl::Status> Resize::StoreSize() {
  metadata_.header.virtual_size = metadata_.geometry.virtual_size();
  metadata_.StoreHeader();
  co_return co_await metadata_.write_back.Flush();
}

}  // namespace ringcow
