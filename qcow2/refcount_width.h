#ifndef RINGCOW_QCOW2_REFCOUNT_WIDTH_H_
#define RINGCOW_QCOW2_REFCOUNT_WIDTH_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/task.h"
#include "qcow2/check_findings.h"
#include "qcow2/check_image.h"
#include "qcow2/check_references.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/units.h"
#include "qcow2/repair_refcounts.h"

namespace ringcow {

// Stores the refcounts of an image, whatever they are, in another width: new structures beside the
// old ones, in clusters that are free. The caller then makes the header name them, at once with
// their width. A crash before that leaves the image as it was, and one after it leaves the old
// structures leaked, until they are given up. Nobody else uses the disk meanwhile.
//
// In this order: Load, Write, the header, FreeOld.
class RefcountWidthChange {
 public:
  // `disk` must outlive it. `next` is the image's geometry as it is to be.
  RefcountWidthChange(Disk& disk, const Header& header, const Geometry& now, const Geometry& next);
  RefcountWidthChange(const RefcountWidthChange&) = delete;
  RefcountWidthChange& operator=(const RefcountWidthChange&) = delete;

  // Reads all refcounts. InvalidArgument, in QEMU's words, when one of them is too large;
  // FailedPrecondition when the structures are damaged, or clusters are in use that have no
  // refcount, so that it is not known what is free.
  Task<absl::Status> Load();

  // Durably. Errors, and progress, as BuildRefcounts.
  Task<absl::StatusOr<RefcountTablePlace>> Write(RefcountProgress progress);

  // `header` is the one that names the new structures.
  Task<absl::Status> FreeOld(const Header& header);

 private:
  // The refcounts of the clusters [begin, end), which have entry `index` of the old refcount table
  // in common.
  Task<absl::Status> LoadBlock(uint64_t index, ClusterIndex begin, ClusterIndex end);
  absl::Status Take(ClusterIndex cluster, uint64_t refcount);
  absl::Status Damaged() const;
  // One reference to each cluster.
  void GiveUp(HostOffset offset, uint64_t clusters);

  Disk& disk_;
  const Header header_;
  const Geometry geometry_;
  Findings findings_;
  ImageCheck check_;
  ReferenceCounter next_;  // the refcounts as they are to be stored
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REFCOUNT_WIDTH_H_
