#ifndef RINGCOW_QCOW2_FREE_SPACE_H_
#define RINGCOW_QCOW2_FREE_SPACE_H_

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/task.h"
#include "qcow2/format/units.h"
#include "qcow2/growth.h"
#include "qcow2/metadata.h"
#include "qcow2/refcounts.h"
#include "qcow2/reservation.h"

namespace ringcow {

// What is done ahead of need when an image is flushed.
struct AheadOptions {
  // Refcounts are raised: see ReserveAhead.
  bool reserves = true;
  // They are recorded, to be given back after a crash: see RecordedReserve.
  bool records = true;
  // While a flush follows each few allocations, what is reserved is written with zeroes: then the
  // guest's writes change no extents of the file, and an fsync behind them finds nothing to write
  // to the file system's journal.
  bool writes_zeroes = true;
};

// Clusters that were free and are taken.
struct AllocatedRun : ClusterRun {
  // The disk holds zeroes there: the file has grown by them since it was opened, and nothing was
  // ever written to them.
  bool is_zero = false;
  // Their refcounts are one, durably, and so is the file's size: what refers to them has nothing to
  // wait for. Else the refcounts are still to be set.
  bool is_counted = false;
};

// Finds host clusters with a refcount of 0, or reserved ones, lowest first. It remembers where it
// stopped, so that what it found is not found again before its refcount is set.
class FreeSpace {
 public:
  FreeSpace(Metadata& metadata, Refcounts& refcounts, Growth& growth, const AheadOptions& ahead);

  // Before a flush: reserves as many of the clusters that will be found next as were taken since
  // the last call suggest, so that their refcounts become durable with what the flush is for. Only
  // such as have refcount blocks (where new blocks lie is decided when they are needed) and as the
  // disk can be grown over ahead of need. On an error, which whoever needs the clusters will meet
  // again, fewer are reserved.
  Task<void> ReserveAhead();
  Reservation& reservation() { return reservation_; }

  // `count` neighbouring free clusters, the file grown over them. ENOSPC, or EFBIG behind the last
  // cluster that an L2 entry can name. With `begin`, as many of them as are free from there on,
  // where the search comes by and that one is.
  Task<absl::StatusOr<AllocatedRun>> Take(uint64_t count,
                                          std::optional<ClusterIndex> begin = std::nullopt);

  // Lets clusters be found again: they were not used after all, or their refcounts are 0 again.
  void Return(ClusterRun run) {
    next_ = std::min(next_, run.first);
    LeaveUnpacked(run);
  }

  // The same for a run that was taken and never written to: where it held zeroes it does so still.
  void ReturnUnused(const AllocatedRun& run) {
    Return(run);
    if (run.is_zero) unused_zeroes_ = run;
  }

  // Space behind `run` that the caller chose itself; the file is grown over it.
  Task<absl::StatusOr<AllocatedRun>> TakeAt(ClusterRun run);

  // Where the compressed data that was packed last ends: the rest of that cluster is free for more.
  // 0 when there is none. Clusters that are returned take it with them: they may become anybody's.
  HostOffset packed_end() const { return packed_end_; }
  // At the end of a cluster there is no rest.
  void SetPackedEnd(HostOffset end) {
    packed_end_ = metadata_.geometry.IsClusterAligned(end) ? HostOffset(0) : end;
  }
  // No more is to be packed into these clusters.
  void LeaveUnpacked(ClusterRun run) {
    const ClusterIndex packed = metadata_.geometry.ClusterOf(packed_end_);
    if (packed >= run.first && packed < run.end()) packed_end_ = HostOffset(0);
  }

  // The end of the highest cluster that was taken since the image was opened, 0 when none was.
  HostOffset taken_end() const { return metadata_.geometry.OffsetOf(taken_end_); }

 private:
  Task<absl::StatusOr<ClusterRun>> Find(uint64_t count, std::optional<ClusterIndex> begin);
  // The clusters that should be reserved, for what was taken lately.
  uint64_t WantedReserve() const;
  Task<absl::Status> Reserve(uint64_t count, bool writes_zeroes);
  Task<absl::Status> PrepareForReserve(ClusterRun run, bool writes_zeroes);
  // Whether the disk holds zeroes in all of `run`, which is about to be used.
  bool TakeZeroes(ClusterRun run);

  Metadata& metadata_;
  Refcounts& refcounts_;
  Growth& growth_;
  const AheadOptions ahead_;
  Reservation reservation_;
  uint64_t taken_ = 0;          // clusters, since the image was opened
  uint64_t taken_lately_ = 0;   // and since the last ReserveAhead
  bool blocks_differ_ = false;  // checked before the first search
  ClusterIndex next_;           // where the search goes on
  ClusterIndex zero_from_;      // from here on the disk holds zeroes, as far as it reaches
  ClusterRun unused_zeroes_;    // and here
  ClusterIndex taken_end_;
  HostOffset packed_end_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FREE_SPACE_H_
