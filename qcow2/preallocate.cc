#include "qcow2/preallocate.h"

#include <algorithm>
#include <cerrno>

#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

// The most that QEMU allocates at once is what one entry of its L2 cache maps.
constexpr uint64_t kMaxEntriesAtOnce = 65536 / kTableEntryBytes;

constexpr uint64_t kZeroesAtOnce = uint64_t{1} << 20;

Task<absl::Status> WriteZeroes(Disk& disk, HostOffset begin, uint64_t length) {
  AlignedBuffer zeroes(std::min(length, kZeroesAtOnce));
  std::fill(zeroes.span().begin(), zeroes.span().end(), std::byte{0});
  while (length > 0) {
    const uint64_t now = std::min<uint64_t>(length, zeroes.size());
    CO_RETURN_IF_ERROR(co_await disk.Write(begin, zeroes.span().first(now)));
    begin += now;
    length -= now;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Reserve(Disk& disk, HostOffset begin, uint64_t length,
                           Preallocation preallocation) {
  if (preallocation == Preallocation::kMetadata) co_return absl::OkStatus();
  if (preallocation == Preallocation::kFull) {
    co_return co_await WriteZeroes(disk, begin, length);
  }
  const absl::Status status = co_await disk.Allocate(begin, length);
  // What posix_fallocate does where the filesystem cannot.
  if (ErrnoOf(status) == EOPNOTSUPP) co_return co_await WriteZeroes(disk, begin, length);
  co_return status;
}

}  // namespace

Task<absl::Status> Preallocate(Metadata& metadata, Allocator& allocator, Mapper& mapper,
                               Preallocation preallocation) {
  if (preallocation == Preallocation::kOff) co_return absl::OkStatus();
  const Geometry& geometry = metadata.geometry;
  GuestOffset offset(0);
  uint64_t missing = geometry.guest_clusters();
  while (missing > 0) {
    CO_ASSIGN_OR_RETURN(Mapper::L2Slice slice, co_await mapper.SliceForChange(offset));
    const uint64_t entries = std::min(geometry.l2_entries(), kMaxEntriesAtOnce);
    const uint64_t in_table = entries - geometry.L2Index(offset) % entries;
    CO_ASSIGN_OR_RETURN(const AllocatedRun run,
                        co_await allocator.Allocate(std::min(missing, in_table)));
    const HostOffset host = geometry.OffsetOf(run.first);
    const uint64_t bytes = run.count * geometry.cluster_bytes();
    CO_RETURN_IF_ERROR(co_await Reserve(metadata.disk, host, bytes, preallocation));
    for (uint64_t done = 0; done < run.count;) {
      CO_ASSIGN_OR_RETURN(slice, co_await mapper.SliceForChange(offset));
      AllocatedRun piece = run;
      piece.first = run.first + done;
      piece.count = std::min(run.count - done, slice.entries);
      CO_RETURN_IF_ERROR(co_await mapper.Enter(slice, piece));
      done += piece.count;
      offset += piece.count * geometry.cluster_bytes();
    }
    missing -= run.count;
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
