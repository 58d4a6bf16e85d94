#ifndef RINGCOW_QCOW2_SNAPSHOTS_H_
#define RINGCOW_QCOW2_SNAPSHOTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/mapping_tree.h"
#include "qcow2/metadata.h"

namespace ringcow {

// The internal snapshots of an image that is open for writing. Each is an L1 table of its own, over
// L2 tables and clusters that it shares.
//
// Each operation runs alone, with no guest request under way, all clusters that were waiting to be
// freed given back (DeferredFrees), and begins and ends with everything durable. In between:
//   - what gets a new reference has the higher refcount durable before the reference,
//   - a reference is durably gone before the refcount falls,
//   - one write of the header's sector switches from the old state to the new one.
// So a power cut leaves the state before or the one after, and at worst refcounts that are too
// high. (Where they are, COPIED may still be set: the cluster has one reference all the same.)
//
// When an operation fails after the header was changed in memory, the new state counts: the next
// flush writes it.
class Snapshots {
 public:
  // What only a deleted snapshot had gives its space back if `passes_discards`.
  Snapshots(Metadata& metadata, Allocator& allocator, bool passes_discards)
      : metadata_(metadata), allocator_(allocator), tree_(metadata, allocator, passes_discards) {}

  Task<absl::Status> Load();
  const std::vector<Snapshot>& all() const { return snapshots_; }

  // `snapshot` says what the new one is like, but for its L1 table and virtual size. An empty id
  // becomes the next free one.
  // OutOfRange when a refcount cannot become larger, or there are too many snapshots.
  Task<absl::Status> Create(Snapshot snapshot);
  // NotFound in both when there is no such snapshot, any more.
  // The active state becomes that of snapshot `index`, its virtual size too. IsLeaking when it has,
  // and clusters of the earlier one could not be given up.
  Task<absl::Status> Apply(size_t index);
  // A failure to free what only a deleted snapshot had is Leaking.
  Task<absl::Status> Delete(size_t index);
  // Rewrites the table, if an entry of it lacks what version 3 demands.
  Task<absl::Status> Complete();

  // The L1 table of snapshot `index`, validated.
  Task<absl::StatusOr<std::vector<L1Entry>>> ReadL1(size_t index) {
    return ReadL1(snapshots_[index]);
  }

 private:
  Task<absl::StatusOr<std::vector<L1Entry>>> ReadL1(const Snapshot& snapshot);
  // The L2 tables of these, where the overlap guard wants to know.
  using HostOffsets = absl::flat_hash_set<uint64_t>;
  Task<absl::StatusOr<HostOffsets>> FindL2Tables(const std::vector<Snapshot>& snapshots);
  // Tells the overlap guard where the snapshots' tables are.
  void UpdateGuard(HostOffsets l2_tables);
  absl::Status CheckIndex(size_t index) const;
  // Clears COPIED in the active L1 table and below; sets it where a refcount is one.
  Task<absl::Status> ClearCopied();
  Task<absl::Status> RefreshCopied();
  // Allocated clusters that hold `bytes`, written but not durable.
  Task<absl::StatusOr<ClusterRun>> WriteNew(std::span<const std::byte> bytes, Content content);
  Task<absl::StatusOr<ClusterRun>> WriteL1Copy(std::span<const L1Entry> l1);
  // One reference less to what the snapshot had, which is gone.
  Task<absl::Status> FreeDeleted(const Snapshot& snapshot, std::span<const L1Entry> l1);
  // Makes `snapshots` the image's, durably, and gives back the old table; a failure of that is
  // Leaking. As QEMU does, entries get all fields that it knows.
  Task<absl::Status> SwitchTo(std::vector<Snapshot> snapshots);
  Task<absl::Status> Flush() { return metadata_.write_back.Flush(); }

  Metadata& metadata_;
  Allocator& allocator_;
  MappingTree tree_;
  std::vector<Snapshot> snapshots_;
  uint64_t table_bytes_ = 0;  // of the table on the disk
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_SNAPSHOTS_H_
