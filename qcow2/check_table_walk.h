#ifndef RINGCOW_QCOW2_CHECK_TABLE_WALK_H_
#define RINGCOW_QCOW2_CHECK_TABLE_WALK_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/aligned_buffer.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/task.h"
#include "qcow2/check_ranges.h"
#include "qcow2/check_table_batch.h"
#include "qcow2/format/geometry.h"

namespace ringcow {

// How many L1 entries point to an L2 table.
struct L2Use {
  uint64_t weight = 0;         // of all L1 tables
  uint64_t active_weight = 0;  // of the active one
  uint32_t last_pass = 0;      // in which it was visited
};

// What a walk hands over, in the order of the active L1 table.
class TableVisitor {
 public:
  virtual ~TableVisitor() = default;

  // An L1 entry that is not 0, in `weight` tables. `index` counts from the beginning of the active
  // L1 table and means nothing in those of snapshots.
  virtual Task<absl::Status> VisitL1Entry(uint64_t raw, uint64_t index, uint64_t weight) = 0;
  // The L2 table at `offset`, after the first L1 entry that points to it.
  virtual Task<absl::Status> VisitL2Table(HostOffset offset, std::span<const std::byte> table,
                                          const L2Use& use) = 0;
};

// Walks L1 tables and the L2 tables they point to, each place of the file once: where tables
// overlap or are shared, visitors are told how often. So the time is bounded by the size of the
// file, whatever the tables say.
//
// An L1 entry that is not cluster aligned, or points beyond the end of the file, is visited but not
// followed: there is no L2 table.
class TableWalk {
 public:
  // `l1_tables` are aligned to 8 bytes; the active one, if any, is the first. `disk` must outlive
  // the walk.
  TableWalk(Disk& disk, const Geometry& geometry, const std::vector<WeightedRange>& l1_tables);

  // Finds out how often each L2 table is used; to be done once, before the first pass.
  // The error is that of the disk, here and below.
  Task<absl::Status> CountUses();

  // L2 tables are visited once in a pass; a pass may be made of several calls.
  void BeginPass() { ++pass_; }
  Task<absl::Status> VisitActive(TableVisitor& visitor);
  Task<absl::Status> VisitSnapshots(TableVisitor& visitor);

 private:
  Task<absl::Status> VisitRange(WeightedRange range, TableVisitor& visitor);
  Task<absl::Status> VisitSlice(std::span<const std::byte> slice, uint64_t first_index,
                                uint64_t weight, TableVisitor& visitor);
  // Puts L2 tables not yet visited in this pass into the batch, from entry `begin` on, and returns
  // the first entry that has to wait for the next batch.
  size_t FillBatch(std::span<const std::byte> slice, size_t begin);
  void Count(std::span<const std::byte> slice, const WeightedRange& range);
  // The next piece of an L1 table; [offset, ...) is not beyond the end of the range.
  std::span<std::byte> SliceAt(uint64_t offset, const WeightedRange& range) const;
  bool IsFollowed(HostOffset l2_table) const;

  Disk& disk_;
  const Geometry geometry_;
  std::vector<WeightedRange> l1_ranges_;  // disjoint, cut to the file's end
  uint64_t active_begin_ = 0;
  absl::flat_hash_map<HostOffset, L2Use> uses_;
  uint32_t pass_ = 0;
  AlignedBuffer slice_;
  TableBatch batch_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_TABLE_WALK_H_
