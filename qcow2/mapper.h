#ifndef RINGCOW_QCOW2_MAPPER_H_
#define RINGCOW_QCOW2_MAPPER_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/table_cache.h"
#include "engine/mutex.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/format/units.h"
#include "qcow2/metadata.h"

namespace ringcow {

// Guest bytes that are mapped alike: for kNormal and kZeroAllocated to neighbouring host bytes.
struct Mapping {
  L2Entry::Kind kind = L2Entry::Kind::kUnallocated;
  bool copied = false;  // every host cluster's refcount is one
  HostOffset host;      // of the first byte; for kNormal and kZeroAllocated
  uint64_t bytes = 0;
};

// Translates guest offsets through the L1 and L2 tables, and changes that translation.
class Mapper {
 public:
  Mapper(Metadata& metadata, Allocator& allocator);

  // How guest bytes from `offset` on are mapped: at least one byte, at most `bytes`, which lie
  // inside the virtual disk. InvalidArgument, naming table and entry, where an entry is wrong.
  Task<absl::StatusOr<Mapping>> Find(GuestOffset offset, uint64_t bytes);

  // Part of an L2 table, for entering clusters into it.
  struct L2Slice {
    TablePin table;
    uint64_t first_entry = 0;  // the slot of the guest cluster that was asked for
    uint64_t entries = 0;      // slots from there to the end of the slice
  };
  // Allocates the L2 table when there is none. Unimplemented when the table is shared (refcount
  // above one).
  Task<absl::StatusOr<L2Slice>> SliceForChange(GuestOffset offset);

  // Enters `run` from slot first_entry on. Its data must have been written completely: it becomes
  // visible to the guest, ordered on the disk behind the refcounts and, where the disk held
  // anything else there before, behind the data.
  Task<absl::Status> Enter(const L2Slice& slice, const AllocatedRun& run);

 private:
  absl::StatusOr<std::optional<HostOffset>> L2TableOf(GuestOffset offset) const;
  // The L2 table for `offset`, which had none.
  Task<absl::StatusOr<HostOffset>> AddL2Table(GuestOffset offset);
  Task<absl::Status> LinkL2Table(uint64_t l1_index, const AllocatedRun& run);
  Task<absl::StatusOr<L2Slice>> SliceOf(HostOffset l2_table, GuestOffset offset);
  absl::Status Validate(L2Entry entry, const TablePin& table, uint64_t slot) const;

  Metadata& metadata_;
  Allocator& allocator_;
  Mutex adding_l2_table_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_MAPPER_H_
