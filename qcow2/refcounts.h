#ifndef RINGCOW_QCOW2_REFCOUNTS_H_
#define RINGCOW_QCOW2_REFCOUNTS_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/table_cache.h"
#include "engine/task.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/format/units.h"
#include "qcow2/metadata.h"

namespace ringcow {

// The host clusters that a compressed cluster touches: it holds a reference to each.
inline ClusterRun ClustersOf(const Geometry& geometry, const CompressedExtent& extent) {
  const ClusterIndex first = geometry.ClusterOf(extent.offset);
  const ClusterIndex last = geometry.ClusterOf(extent.offset + (extent.bytes - 1));
  return {first, last - first + 1};
}

// And those that an entry has a reference to; none for one that has no cluster.
inline ClusterRun ClustersOf(const Geometry& geometry, L2Entry entry) {
  if (const auto host = entry.host_offset()) return {geometry.ClusterOf(*host), 1};
  const auto extent = entry.compressed_extent(geometry);
  return extent.has_value() ? ClustersOf(geometry, *extent) : ClusterRun();
}

// The refcounts that exist, in the image's refcount blocks. New blocks are the Allocator's.
class Refcounts {
 public:
  explicit Refcounts(Metadata& metadata) : metadata_(metadata) {}

  // The refcounts of some clusters around one that was asked for.
  struct Slice {
    ClusterRun clusters;
    TablePin table;  // null where no refcount block is allocated: all counts are 0

    bool has_block() const { return static_cast<bool>(table); }
  };

  // InvalidArgument when the refcount table's entry is wrong.
  Task<absl::StatusOr<Slice>> SliceOf(ClusterIndex cluster);
  uint64_t Get(const Slice& slice, ClusterIndex cluster) const;

  Task<absl::StatusOr<uint64_t>> Get(ClusterIndex cluster);

  // InvalidArgument when two entries of the refcount table name the same block. Such a table makes
  // a file of a few MiB count more clusters than anyone can look through, and setting one refcount
  // would set another. Where the blocks differ, they are no more than the file has clusters.
  absl::Status CheckBlocksDiffer() const;

  // The end of the last cluster with a refcount above 0.
  Task<absl::StatusOr<ClusterIndex>> UsedEnd();

  // Sets the refcount of every cluster of `run` in memory. Raising it from 0 needs no order; a
  // lower one must not be set before the removal of the reference is durable. InvalidArgument, with
  // those before it set, at a cluster without a refcount block.
  Task<absl::Status> Set(ClusterRun run, uint64_t refcount);

  // One more than it was. OutOfRange when the image's refcounts are too narrow for that.
  Task<absl::Status> Increment(ClusterIndex cluster);
  // One less than it was: what is left. A lower one must not be set before the removal of the
  // reference is durable. InvalidArgument where it is 0 already.
  Task<absl::StatusOr<uint64_t>> Decrement(ClusterIndex cluster);

  // The first cluster of `run` without a refcount block; nothing when each has one.
  Task<absl::StatusOr<std::optional<ClusterIndex>>> FirstWithoutBlock(ClusterRun run);

  // `referrer` is about to refer to the clusters of `run`: it must be written only when their
  // refcounts, the refcount blocks that hold them, the refcount table entries of these blocks, and
  // the header that says where the refcount table is, are all durable. InvalidArgument for a
  // cluster without a refcount block: a damaged entry can name one.
  Task<absl::Status> OrderBefore(Table& referrer, ClusterRun run);

 private:
  absl::Status NoBlock(ClusterIndex cluster) const;
  Task<absl::Status> OrderUnsettled(Table& referrer, Table& before);
  // Where the slice with the refcount of `cluster` is in the file; nothing without a block.
  absl::StatusOr<std::optional<HostOffset>> SliceOffset(ClusterIndex cluster) const;
  // The clusters whose refcounts are in the same slice as that of `cluster`.
  ClusterRun SliceClusters(ClusterIndex cluster) const;

  Metadata& metadata_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REFCOUNTS_H_
