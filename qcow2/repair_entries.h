#ifndef RINGCOW_QCOW2_REPAIR_ENTRIES_H_
#define RINGCOW_QCOW2_REPAIR_ENTRIES_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/task.h"
#include "qcow2/check_references.h"
#include "qcow2/check_table_walk.h"

namespace ringcow {

// Whether wrong L2 entries are set right, on disk.
enum class EntryRepair : bool { kNo, kYes };

// Makes entries that read as zeroes, but name a place where there can be no cluster (see
// IsUnalignedZero), entries without a cluster that read the same. To be used when all references
// but theirs are counted. Not durable by itself. An entry in a table that something else claims too
// stays as it is, and is reported and counted.
class EntryRepairVisitor final : public TableVisitor {
 public:
  EntryRepairVisitor(ReferenceCounter& counter, Disk& disk, bool external_data)
      : counter_(counter), disk_(disk), external_data_(external_data) {}

  Task<absl::Status> VisitL1Entry(uint64_t raw, uint64_t index, uint64_t weight) override;
  Task<absl::Status> VisitL2Table(HostOffset offset, std::span<const std::byte> table,
                                  const L2Use& use) override;

 private:
  void CountAsItIs(uint64_t raw, const L2Use& use);

  ReferenceCounter& counter_;
  Disk& disk_;
  const bool external_data_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REPAIR_ENTRIES_H_
