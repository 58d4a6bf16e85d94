#ifndef RINGCOW_QCOW2_SNAPSHOT_ZEROES_H_
#define RINGCOW_QCOW2_SNAPSHOT_ZEROES_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/extended_l2_entry.h"
#include "qcow2/metadata.h"
#include "qcow2/snapshots.h"

namespace ringcow {

// Takes from the L2 tables of snapshots the zero clusters that version 2 cannot do without: over a
// backing file each becomes a cluster of zero bytes, elsewhere those that keep a cluster give it
// up. (Those that have none read the same there as what is not allocated.)
//
// Tables are changed in place, also those that several snapshots or the active state share: each
// entry means the same before and after, so that no power cut, and no torn write, shows. Zeroes and
// refcounts of new clusters are durable before an entry names them, and entries no longer name what
// is given up before its refcount falls.
class SnapshotZeroes {
 public:
  SnapshotZeroes(Metadata& metadata, Allocator& allocator, Snapshots& snapshots, bool has_backing)
      : metadata_(metadata),
        allocator_(allocator),
        snapshots_(snapshots),
        has_backing_(has_backing) {}

  // Runs alone, as what Snapshots does; of an image without subclusters. `on_progress` hears how
  // many L1 entries of all snapshots are done.
  Task<absl::Status> Expand(std::function<void(uint64_t)> on_progress);

 private:
  struct Change {
    HostOffset slice;
    uint64_t slot = 0;
    ExtendedL2Entry next = ExtendedL2Entry();
    std::optional<ClusterRun> taken = std::nullopt;
    std::optional<ClusterRun> given_up = std::nullopt;
  };

  Task<absl::Status> ExpandIn(HostOffset l2_table);
  // The changes in one table; new clusters get `references`.
  Task<absl::Status> Prepare(HostOffset l2_table, uint64_t references,
                             std::vector<Change>& changes);
  Task<absl::Status> CarryOut(const std::vector<Change>& changes);
  // A cluster of zero bytes, written but not durable.
  Task<absl::StatusOr<ClusterRun>> TakeZeroes(uint64_t references);

  Metadata& metadata_;
  Allocator& allocator_;
  Snapshots& snapshots_;
  const bool has_backing_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_SNAPSHOT_ZEROES_H_
