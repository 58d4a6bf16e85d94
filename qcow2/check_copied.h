#ifndef RINGCOW_QCOW2_CHECK_COPIED_H_
#define RINGCOW_QCOW2_CHECK_COPIED_H_

#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/task.h"
#include "qcow2/check_refcounts.h"
#include "qcow2/check_references.h"
#include "qcow2/check_table_walk.h"

namespace ringcow {

// Whether wrong flags are set right, on disk.
enum class CopiedRepair : bool { kNo, kYes };

// Checks that COPIED is set exactly where the refcount on disk is one: for L2 tables in the active
// L1 table, and for data clusters in those L2 tables. After StoredRefcounts::Compare; a repair only
// when the refcounts are right, durably. Tables in a place that something else has too are not
// written.
class CopiedVisitor final : public TableVisitor {
 public:
  struct Options {
    HostOffset l1_table;  // the active one
    bool external_data = false;
    CopiedRepair repair = CopiedRepair::kNo;
  };

  CopiedVisitor(ReferenceCounter& counter, StoredRefcounts& refcounts, Disk& disk,
                const Options& options)
      : counter_(counter),
        refcounts_(refcounts),
        disk_(disk),
        file_size_(disk.size()),
        options_(options) {}

  Task<absl::Status> VisitL1Entry(uint64_t raw, uint64_t index, uint64_t weight) override;
  Task<absl::Status> VisitL2Table(HostOffset offset, std::span<const std::byte> table,
                                  const L2Use& use) override;

 private:
  // Every reference to a place inside the file was counted; others were only reported.
  bool IsCounted(HostOffset offset) const { return offset.value() < file_size_; }
  // The refcount on disk, which Compare left in the counts. Nothing where it could not be read.
  std::optional<uint64_t> CountedRefcount(HostOffset offset) const;
  // Nothing where it is unknown.
  Task<std::optional<uint64_t>> RefcountOf(HostOffset offset);
  // Whether a repair may write the table at `offset`, which `uses` entries have a part in.
  bool MayWrite(HostOffset offset, uint64_t uses) const;

  ReferenceCounter& counter_;
  StoredRefcounts& refcounts_;
  Disk& disk_;
  const uint64_t file_size_;
  const Options options_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_COPIED_H_
