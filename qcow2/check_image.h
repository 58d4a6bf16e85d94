#ifndef RINGCOW_QCOW2_CHECK_IMAGE_H_
#define RINGCOW_QCOW2_CHECK_IMAGE_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/check_copied.h"
#include "qcow2/check_findings.h"
#include "qcow2/check_ranges.h"
#include "qcow2/check_refcounts.h"
#include "qcow2/check_references.h"
#include "qcow2/check_table_walk.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/repair_entries.h"

namespace ringcow {

// The walk over one image: what a check and a repair are made of, to be called in this order.
// Errors of its parts are those of the disk; what is wrong in the image is in the findings. All
// that it is given must outlive it.
class ImageCheck {
 public:
  ImageCheck(Disk& disk, const Header& header, const Geometry& geometry, Findings& findings);

  Task<absl::Status> LoadRefcountTable();
  // After this the check may be stopped (see Findings::Stop).
  Task<absl::Status> CountReferences(EntryRepair repair = EntryRepair::kNo);
  // The same with another snapshot table than the one in the image.
  Task<absl::Status> CountReferences(const SnapshotTable& snapshots,
                                     EntryRepair repair = EntryRepair::kNo);
  // Compares them with the refcounts; may be repeated while references are kept.
  Task<void> Compare(Comparison how) { return refcounts_.Compare(counter_, how); }
  Task<absl::Status> CheckCopied(CopiedRepair repair);

  bool stopped() const { return findings_.result.stopped_by != 0; }
  ReferenceCounter& counter() { return counter_; }
  const StoredRefcounts& refcounts() const { return refcounts_; }

 private:
  std::vector<WeightedRange> L1Tables(const SnapshotTable& snapshots) const;
  Task<absl::Status> CountAll(const SnapshotTable& snapshots, EntryRepair repair);

  Disk& disk_;
  const Header& header_;
  Findings& findings_;
  const bool external_data_;
  ReferenceCounter counter_;
  StoredRefcounts refcounts_;
  std::unique_ptr<TableWalk> walk_;  // when it is known where the L1 tables are
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_IMAGE_H_
