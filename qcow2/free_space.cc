#include "qcow2/free_space.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"
#include "qcow2/format/limits.h"

namespace ringcow {
namespace {

// Bounds of what is reserved: in bytes, because a crash leaks it, and in clusters, because of these
// refcounts consist. Where less is needed at a time, as much is reserved as was ever taken, up to
// kAmpleReserveBytes: the more there is, the fewer flushes have refcounts to write, and no crash
// leaks more than twice of what was put to use.
constexpr uint64_t kAmpleReserveBytes = uint64_t{4} << 20;
constexpr uint64_t kMaxReserveBytes = uint64_t{64} << 20;
constexpr uint64_t kMinReserve = 8;
constexpr uint64_t kMaxReserve = 4096;

// What is allocated between two flushes at most for zeroes to be written ahead. They are written in
// a flush, which takes that much longer, and holds up allocations: one in 32, where a flush follows
// each allocation.
constexpr uint64_t kMaxZeroedBytes = uint64_t{128} << 10;

// Clusters looked at for a reservation: what is in use must not be searched again and again.
constexpr uint64_t kMostExamined = 2048;

uint64_t ClustersIn(const Geometry& geometry, uint64_t bytes) {
  return std::clamp(bytes / geometry.cluster_bytes(), kMinReserve, kMaxReserve);
}

}  // namespace

FreeSpace::FreeSpace(Metadata& metadata, Refcounts& refcounts, Growth& growth,
                     const AheadOptions& ahead)
    : metadata_(metadata),
      refcounts_(refcounts),
      growth_(growth),
      ahead_(ahead),
      reservation_(metadata, refcounts),
      zero_from_(metadata.geometry.ClustersFor(metadata.disk.size())) {}

Task<absl::StatusOr<AllocatedRun>> FreeSpace::Take(uint64_t count,
                                                   std::optional<ClusterIndex> begin) {
  CO_ASSIGN_OR_RETURN(const ClusterRun run, co_await Find(count, begin));
  next_ = run.end();
  auto taken = co_await TakeAt(run);
  if (!taken.ok()) Return(run);
  co_return taken;
}

Task<absl::StatusOr<AllocatedRun>> FreeSpace::TakeAt(ClusterRun run) {
  // Refcounts that call the header or a table of the image free are wrong. Tables of snapshots may
  // even be said to be where the file does not reach yet: a guest's bytes must not become one.
  const HostOffset begin = metadata_.geometry.OffsetOf(run.first);
  const uint64_t bytes = run.count * metadata_.geometry.cluster_bytes();
  CO_RETURN_IF_ERROR(metadata_.guard.BeforeWrite(begin, bytes, OverlapGuard::Own::kNothing));
  if (begin < metadata_.clusters_end) {
    const uint64_t in_file = std::min(bytes, metadata_.clusters_end - begin);
    CO_RETURN_IF_ERROR(metadata_.CheckPlace(begin, in_file, "a cluster with refcount 0"));
  }
  CO_RETURN_IF_ERROR(co_await growth_.Cover(metadata_.geometry.OffsetOf(run.end())));
  CO_ASSIGN_OR_RETURN(const bool is_counted, co_await reservation_.Take(run));
  const AllocatedRun taken{run, TakeZeroes(run), is_counted};
  taken_ += run.count;
  taken_lately_ += run.count;
  taken_end_ = std::max(taken_end_, run.end());
  metadata_.clusters_end = std::max(metadata_.clusters_end, metadata_.geometry.OffsetOf(run.end()));
  co_return taken;
}

bool FreeSpace::TakeZeroes(ClusterRun run) {
  const bool begins_unused = run.first >= unused_zeroes_.first && run.first < unused_zeroes_.end();
  const bool ends_in_zeroes =
      run.end() <= unused_zeroes_.end() || unused_zeroes_.end() >= zero_from_;
  const bool is_zero = run.first >= zero_from_ || (begins_unused && ends_in_zeroes);
  zero_from_ = std::max(zero_from_, run.end());
  if (run.first < unused_zeroes_.end() && unused_zeroes_.first < run.end()) {
    const ClusterIndex rest = std::min(run.end(), unused_zeroes_.end());
    unused_zeroes_ = {rest, unused_zeroes_.end() - rest};
  }
  return is_zero;
}

Task<absl::StatusOr<ClusterRun>> FreeSpace::Find(uint64_t count,
                                                 std::optional<ClusterIndex> begin) {
  const ClusterIndex limit(kMaxEntryHostOffset >> metadata_.geometry.cluster_bits());
  if (!blocks_differ_) CO_RETURN_IF_ERROR(refcounts_.CheckBlocksDiffer());
  blocks_differ_ = true;
  ClusterRun run{next_, 0};
  while (run.count < count) {
    if (const uint64_t reserved = reservation_.RunFrom(run.end()); reserved > 0) {
      run.count = std::min(count, run.count + reserved);
      continue;
    }
    CO_ASSIGN_OR_RETURN(const Refcounts::Slice slice, co_await refcounts_.SliceOf(run.end()));
    if (!slice.has_block()) run.count = std::min(count, slice.clusters.end() - run.first);
    while (run.count < count && run.end() < slice.clusters.end()) {
      if (reservation_.RunFrom(run.end()) > 0) break;
      const bool is_free = refcounts_.Get(slice, run.end()) == 0;
      if (!is_free && run.first == begin && run.count > 0) {
        count = run.count;
        break;
      }
      run = is_free ? ClusterRun{run.first, run.count + 1} : ClusterRun{run.end() + 1, 0};
    }
    if (run.end() > limit) {
      co_return ErrnoStatus(EFBIG, absl::StrFormat("'%s' has no %d free clusters in a row",
                                                   metadata_.disk.name(), count));
    }
  }
  co_return run;
}

Task<void> FreeSpace::ReserveAhead() {
  if (!ahead_.reserves || !metadata_.write_back.failure().ok()) co_return;
  // No longer found: a search for several clusters in a row has passed by them.
  if (!(co_await reservation_.GiveBackBefore(next_)).ok()) co_return;
  const uint64_t wanted = WantedReserve();
  const uint64_t enough = std::max(wanted / 2, std::min(taken_lately_, wanted));
  const uint64_t taken = std::exchange(taken_lately_, 0);
  if (taken == 0 || reservation_.clusters() >= enough) co_return;
  const bool writes_zeroes =
      ahead_.writes_zeroes && taken * metadata_.geometry.cluster_bytes() <= kMaxZeroedBytes;
  metadata_.recorded_reserve.Keep(reservation_.Runs());
  (void)co_await Reserve(wanted - reservation_.clusters(), writes_zeroes);
}

uint64_t FreeSpace::WantedReserve() const {
  const uint64_t ample = std::min(taken_, ClustersIn(metadata_.geometry, kAmpleReserveBytes));
  return std::clamp(std::max(2 * taken_lately_, ample), kMinReserve,
                    ClustersIn(metadata_.geometry, kMaxReserveBytes));
}

Task<absl::Status> FreeSpace::PrepareForReserve(ClusterRun run, bool writes_zeroes) {
  const HostOffset begin = metadata_.geometry.OffsetOf(run.first);
  const HostOffset end = metadata_.geometry.OffsetOf(run.end());
  CO_RETURN_IF_ERROR(co_await growth_.CoverAhead(end));
  // Over zeroes: whatever of it a crash leaves.
  if (!writes_zeroes || run.first < zero_from_) co_return absl::OkStatus();
  co_return co_await WriteZeroBytes(metadata_.disk, begin, end - begin);
}

Task<absl::Status> FreeSpace::Reserve(uint64_t count, bool writes_zeroes) {
  ClusterIndex at = next_;
  const ClusterIndex search_end = at + kMostExamined;
  while (count > 0 && at < search_end) {
    if (const uint64_t reserved = reservation_.RunFrom(at); reserved > 0) {
      at = at + reserved;
      continue;
    }
    CO_ASSIGN_OR_RETURN(const Refcounts::Slice slice, co_await refcounts_.SliceOf(at));
    if (!slice.has_block()) break;
    while (at < slice.clusters.end() && refcounts_.Get(slice, at) != 0 &&
           reservation_.RunFrom(at) == 0) {
      at = at + 1;
    }
    ClusterRun run{at, 0};
    while (run.count < count && run.end() < slice.clusters.end() &&
           refcounts_.Get(slice, run.end()) == 0 && reservation_.RunFrom(run.end()) == 0) {
      ++run.count;
    }
    if (run.count == 0) continue;
    at = run.end();
    CO_RETURN_IF_ERROR(co_await PrepareForReserve(run, writes_zeroes));
    if (ahead_.records) {
      CO_ASSIGN_OR_RETURN(const bool has_room, co_await metadata_.recorded_reserve.Add(run));
      if (!has_room) break;
    }
    CO_RETURN_IF_ERROR(co_await reservation_.Add(run));
    count -= run.count;
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
