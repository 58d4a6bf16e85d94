#include "qcow2/resize.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"
#include "qcow2/active_l1.h"
#include "qcow2/corruption.h"
#include "qcow2/preallocate.h"

namespace ringcow {

Task<absl::Status> Resize::To(uint64_t virtual_size, uint64_t backing_bytes,
                              Preallocation preallocation) {
  const uint64_t old_size = metadata_.geometry.virtual_size();
  CO_ASSIGN_OR_RETURN(const Geometry resized, metadata_.geometry.Resized(virtual_size));
  if (virtual_size != old_size) CO_RETURN_IF_ERROR(co_await ForgetVmState());
  if (virtual_size < old_size) co_return co_await Shrink(resized);
  if (virtual_size > old_size) {
    co_return co_await Grow(resized, backing_bytes, preallocation);
  }
  co_return absl::OkStatus();
}

// Where it lies, the guest's disk may be afterwards, or the L1 table may have ended.
Task<absl::Status> Resize::ForgetVmState() {
  const Geometry& geometry = metadata_.geometry;
  const uint64_t entries = metadata_.l1.entries();
  uint64_t index = geometry.l1_entries();
  while (index < entries && metadata_.l1.Get(index) == 0) ++index;
  if (index == entries) co_return absl::OkStatus();
  const GuestOffset begin = geometry.GuestOffsetOf(index, 0);
  CO_RETURN_IF_ERROR(
      co_await zeroer_.Unmap(begin, entries * geometry.bytes_per_l2_table() - begin.value()));
  UnlinkL2Tables(index);
  co_return co_await metadata_.write_back.Flush();
}

Task<absl::Status> Resize::Grow(Geometry grown, uint64_t backing_bytes,
                                Preallocation preallocation) {
  const Geometry old = metadata_.geometry;
  if (grown.l1_entries() > metadata_.l1.entries()) {
    std::vector<L1Entry> l1 = ActiveL1(metadata_);
    l1.resize(grown.l1_entries(), L1Entry::Unallocated());
    CO_RETURN_IF_ERROR(co_await ReplaceActiveL1(metadata_, allocator_, std::move(l1), old));
  }
  // All of a raw data file is the guest's disk: its metadata says so everywhere, as QEMU's does.
  if (metadata_.has_raw_data_file() && preallocation == Preallocation::kOff) {
    preallocation = Preallocation::kMetadata;
  }
  if (metadata_.has_data_file()) {
    CO_RETURN_IF_ERROR(co_await GrowDataFile(old.virtual_size(), grown.virtual_size(),
                                             preallocation != Preallocation::kOff));
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
  const uint64_t cluster_end =
      std::min(geometry.virtual_size(), AlignUp(old_size, geometry.cluster_bytes()));
  // What the backing file holds behind the end was never the guest's.
  const uint64_t backing_end = std::min(geometry.virtual_size(), backing_bytes);
  if (backing_end > cluster_end) {
    CO_RETURN_IF_ERROR(co_await MakeZero(GuestOffset(cluster_end), GuestOffset(backing_end)));
  }
  if (cluster_end < geometry.virtual_size()) {
    CO_RETURN_IF_ERROR(co_await Preallocate(metadata_, allocator_, mapper_,
                                            GuestOffset(cluster_end), metadata_.clusters_end,
                                            preallocation));
  }
  // What lies behind the end in the last cluster is nobody's. (Last, as QEMU does it: what this may
  // have to allocate comes to lie where preallocation has left a gap.)
  if (cluster_end == old_size) co_return absl::OkStatus();
  co_return co_await MakeZero(GuestOffset(old_size), GuestOffset(cluster_end));
}

// What a data file holds behind the end of the disk is nobody's, and must not become the guest's.
Task<absl::Status> Resize::GrowDataFile(uint64_t old_size, uint64_t new_size, bool must_be_zero) {
  Disk& disk = metadata_.data_disk;
  if (must_be_zero && disk.size() > old_size) {
    const absl::Status status = co_await disk.Truncate(old_size);
    if (ErrnoOf(status) == EINVAL) {  // a block device
      const uint64_t end = std::min(disk.size(), new_size);
      CO_RETURN_IF_ERROR(co_await ZeroOnDisk(disk, HostOffset(old_size), end - old_size));
    } else {
      CO_RETURN_IF_ERROR(status);
    }
  }
  if (disk.size() >= new_size) co_return absl::OkStatus();
  const absl::Status status = co_await disk.Truncate(new_size);
  if (ErrnoOf(status) != EINVAL) co_return status;
  co_return ErrnoStatus(ENOSPC, absl::StrFormat("'%s' ends at %d bytes and %d are needed",
                                                disk.name(), disk.size(), new_size));
}

// What cannot be cut off is met before anything is. (Entries of which the image is to be marked as
// corrupt may be ones that can be taken out.)
Task<absl::Status> Resize::CheckCut(uint64_t begin, uint64_t end) {
  const uint64_t cluster = metadata_.geometry.cluster_bytes();
  while (begin < end) {
    const absl::StatusOr<Mapping> mapping = co_await mapper_.Find(GuestOffset(begin), end - begin);
    if (!mapping.ok() && !CorruptionOf(mapping.status()).has_value()) co_return mapping.status();
    begin += mapping.ok() ? mapping->bytes : cluster - begin % cluster;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Resize::Shrink(Geometry shrunk) {
  const uint64_t end = AlignUp(shrunk.virtual_size(), shrunk.cluster_bytes());
  const uint64_t old_end = metadata_.geometry.virtual_size();
  CO_RETURN_IF_ERROR(co_await CheckCut(end, old_end));
  // A raw data file must read as the guest does also when the power fails before the new size is
  // durable, and clusters that are unmapped by then read as zeroes.
  const uint64_t zero_end = metadata_.has_raw_data_file() ? old_end : std::min(end, old_end);
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
  CO_RETURN_IF_ERROR(co_await StoreSize());
  if (!metadata_.has_data_file() || metadata_.data_disk.size() <= shrunk.virtual_size()) {
    co_return absl::OkStatus();
  }
  const absl::Status status = co_await metadata_.data_disk.Truncate(shrunk.virtual_size());
  // A block device has the size it has.
  co_return ErrnoOf(status) == EINVAL ? absl::OkStatus() : status;
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
