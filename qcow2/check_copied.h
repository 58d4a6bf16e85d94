#ifndef RINGCOW_QCOW2_CHECK_COPIED_H_
#define RINGCOW_QCOW2_CHECK_COPIED_H_

#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "engine/host_offset.h"
#include "engine/task.h"
#include "qcow2/check_refcounts.h"
#include "qcow2/check_references.h"
#include "qcow2/check_table_walk.h"

namespace ringcow {

// Checks that COPIED is set exactly where the refcount on disk is one: for L2 tables in the active
// L1 table, and for data clusters in those L2 tables. After StoredRefcounts::Compare.
class CopiedVisitor final : public TableVisitor {
 public:
  CopiedVisitor(ReferenceCounter& counter, StoredRefcounts& refcounts, uint64_t file_size,
                bool external_data)
      : counter_(counter),
        refcounts_(refcounts),
        file_size_(file_size),
        external_data_(external_data) {}

  Task<absl::Status> VisitL1Entry(uint64_t raw, uint64_t index, uint64_t weight) override;
  Task<absl::Status> VisitL2Table(HostOffset offset, std::span<const std::byte> table,
                                  const L2Use& use) override;

 private:
  // Every reference to a place inside the file was counted; others were only reported.
  bool IsCounted(HostOffset offset) const { return offset.value() < file_size_; }
  // The refcount on disk, which Compare left in the counts. Nothing where it could not be read.
  std::optional<uint64_t> CountedRefcount(HostOffset offset) const;

  ReferenceCounter& counter_;
  StoredRefcounts& refcounts_;
  const uint64_t file_size_;
  const bool external_data_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_COPIED_H_
