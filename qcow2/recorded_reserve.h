#ifndef RINGCOW_QCOW2_RECORDED_RESERVE_H_
#define RINGCOW_QCOW2_RECORDED_RESERVE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/table.h"
#include "cache/table_cache.h"
#include "engine/task.h"
#include "qcow2/format/reserve_record.h"
#include "qcow2/format/units.h"

namespace ringcow {

struct Metadata;

// The ReserveRecord of an open image. What it promises holds at every instant on the disk.
// Snapshots, bitmaps and whatever else would refer to recorded clusters in another way run alone,
// and end the record first, durably. An L2 table that is not in the recorded range waits for a
// record that has it: the range then grows to at least twice its size, so that this happens a few
// times and no more. A recorded cluster may be taken, given back and taken for something else: only
// what refers to it counts.
class RecordedReserve {
 public:
  // `metadata`, which it is part of, has the header.
  explicit RecordedReserve(Metadata& metadata);

  // What an earlier use of the image has left. Nothing where it was closed, or has been written to
  // by others since.
  Task<absl::StatusOr<std::optional<ReserveRecord>>> Find();

  // Of what is recorded only `runs` (sorted, disjoint) are reserved still.
  void Keep(const std::vector<ClusterRun>& runs);
  // `run` is about to be reserved. False where the record has no room for it. True also where the
  // header's cluster has none for a record: then a crash leaks what is reserved.
  Task<absl::StatusOr<bool>> Add(ClusterRun run);

  // Whether the L2 table of that L1 entry may refer to recorded clusters as things are.
  bool Covers(uint64_t l1_index) const { return l1_index >= begin_ && l1_index < end_; }
  // To be called, where that is false, before the table is changed to refer to clusters.
  Task<absl::Status> OrderBefore(Table& l2_table, uint64_t l1_index);

  // Nothing is reserved any more. The next flush removes the record. The range stays: L2 tables of
  // it may refer to what the next record has.
  void End();

 private:
  bool is_on() const;
  // Whether the last sector of the header's cluster is left to us.
  bool HasPlace() const;
  Task<absl::Status> Load();
  // The first record, with `run`.
  Task<absl::StatusOr<bool>> Begin(ClusterRun run);
  void Store();

  Metadata& metadata_;
  TableCache cache_;
  TablePin pin_;  // null until there is a record
  ReserveRecord record_;
  // The range of the record on the disk, or, as long as there is none, of this use of the image.
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_RECORDED_RESERVE_H_
