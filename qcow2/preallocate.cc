#include "qcow2/preallocate.h"

#include <algorithm>
#include <cerrno>

#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"

namespace ringcow {
namespace {

// The most that QEMU allocates at once is what one entry of its L2 cache maps.
constexpr uint64_t kMaxEntriesAtOnce = 65536 / kTableEntryBytes;

Task<absl::Status> Reserve(Disk& disk, HostOffset begin, uint64_t length,
                           Preallocation preallocation) {
  if (length == 0) co_return absl::OkStatus();
  if (preallocation == Preallocation::kFull) {
    co_return co_await WriteZeroBytes(disk, begin, length);
  }
  const absl::Status status = co_await disk.Allocate(begin, length);
  // What posix_fallocate does where the filesystem cannot.
  if (ErrnoOf(status) == EOPNOTSUPP) co_return co_await WriteZeroBytes(disk, begin, length);
  co_return status;
}

uint64_t MissingClusters(const Geometry& geometry, GuestOffset offset) {
  return geometry.guest_clusters() - offset.value() / geometry.cluster_bytes();
}

// Maps the guest clusters from `offset` on to those of `run`. Subclusters stay unallocated, so that
// the host clusters show nothing that they hold, and hide nothing of a backing file. In a raw data
// file they are allocated, unlike QEMU's: it must read as the guest does, also while one is
// written.
Task<absl::Status> Enter(Metadata& metadata, Mapper& mapper, GuestOffset offset, AllocatedRun run) {
  const Geometry& geometry = metadata.geometry;
  while (run.count > 0) {
    CO_ASSIGN_OR_RETURN(const Mapper::L2Slice slice, co_await mapper.SliceForChange(offset));
    AllocatedRun piece = run;
    piece.count = std::min(run.count, slice.entries);
    const bool shows = !geometry.extended_l2() || metadata.has_raw_data_file();
    const GuestOffset end = offset + (shows ? piece.count * geometry.cluster_bytes() : 0);
    CO_RETURN_IF_ERROR(co_await mapper.Enter(
        slice, {piece, offset, end}, piece.is_zero || !shows ? Exposure::kSame : Exposure::kOther));
    run.first += piece.count;
    run.count -= piece.count;
    offset += piece.count * geometry.cluster_bytes();
  }
  co_return absl::OkStatus();
}

// Cluster after cluster, as a guest would that writes its disk from front to back. Clusters that
// were used before, and those of a block device, may hold anything there, which must not show.
Task<absl::Status> PreallocateMetadata(Metadata& metadata, Allocator& allocator, Mapper& mapper,
                                       GuestOffset offset) {
  const Geometry& geometry = metadata.geometry;
  const uint64_t entries = std::min(geometry.l2_entries(), kMaxEntriesAtOnce);
  uint64_t missing = MissingClusters(geometry, offset);
  while (missing > 0) {
    // The L2 table comes before its clusters.
    const absl::StatusOr<Mapper::L2Slice> slice = co_await mapper.SliceForChange(offset);
    CO_RETURN_IF_ERROR(slice.status());
    const uint64_t in_table = entries - geometry.L2Index(offset) % entries;
    CO_ASSIGN_OR_RETURN(const AllocatedRun run,
                        co_await allocator.Allocate(std::min(missing, in_table)));
    if (!run.is_zero && !geometry.extended_l2()) {
      CO_RETURN_IF_ERROR(co_await ZeroOnDisk(metadata.disk, geometry.OffsetOf(run.first),
                                             run.count * geometry.cluster_bytes()));
    }
    CO_RETURN_IF_ERROR(co_await Enter(metadata, mapper, offset, run));
    missing -= run.count;
    offset += run.count * geometry.cluster_bytes();
  }
  co_return absl::OkStatus();
}

// All data in one piece, which the disk can reserve at once; the L2 tables go where there is room.
Task<absl::Status> PreallocateData(Metadata& metadata, Allocator& allocator, Mapper& mapper,
                                   GuestOffset offset, HostOffset end,
                                   Preallocation preallocation) {
  const Geometry& geometry = metadata.geometry;
  const uint64_t clusters = MissingClusters(geometry, offset);
  const uint64_t l2_tables = DivideRoundUp(clusters, geometry.l2_entries());
  CO_ASSIGN_OR_RETURN(const AllocatedRun run, co_await allocator.AllocateBehind(
                                                  geometry.ClusterOf(end), clusters, l2_tables));
  CO_RETURN_IF_ERROR(co_await Reserve(metadata.disk, geometry.OffsetOf(run.first),
                                      clusters * geometry.cluster_bytes(), preallocation));
  co_return co_await Enter(metadata, mapper, offset, run);
}

Task<absl::Status> PreallocateDataFile(Metadata& metadata, Mapper& mapper, GuestOffset offset,
                                       Preallocation preallocation) {
  const Geometry& geometry = metadata.geometry;
  const HostOffset begin(offset.value());
  if (preallocation != Preallocation::kMetadata) {
    CO_RETURN_IF_ERROR(co_await Reserve(metadata.data_disk, begin,
                                        geometry.virtual_size() - offset.value(), preallocation));
  }
  const ClusterRun run{geometry.ClusterOf(begin), MissingClusters(geometry, offset)};
  co_return co_await Enter(metadata, mapper, offset, {run, /*is_zero=*/true});
}

}  // namespace

Task<absl::Status> Preallocate(Metadata& metadata, Allocator& allocator, Mapper& mapper,
                               GuestOffset begin, HostOffset end, Preallocation preallocation) {
  if (metadata.has_data_file() && preallocation != Preallocation::kOff) {
    co_return co_await PreallocateDataFile(metadata, mapper, begin, preallocation);
  }
  switch (preallocation) {
    case Preallocation::kOff:
      break;
    case Preallocation::kMetadata:
      co_return co_await PreallocateMetadata(metadata, allocator, mapper, begin);
    case Preallocation::kFalloc:
    case Preallocation::kFull:
      co_return co_await PreallocateData(metadata, allocator, mapper, begin, end, preallocation);
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
