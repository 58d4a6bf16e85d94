#ifndef RINGCOW_QCOW2_CHECK_H_
#define RINGCOW_QCOW2_CHECK_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/disk.h"
#include "engine/task.h"

namespace ringcow {

// What a walk over all metadata found; the counts are those of qemu-img check.
struct CheckResult {
  uint64_t corruptions = 0;   // references that are wrong: data is or may get lost
  uint64_t leaks = 0;         // clusters with a higher refcount than references: only lost space
  uint64_t check_errors = 0;  // places that could not be examined (a read failed)
  // What a repair (repair.h) has put right; the counts above are then of what is left.
  uint64_t corruptions_fixed = 0;
  uint64_t leaks_fixed = 0;
  // An errno when the walk ended early, at something that makes all the rest meaningless: an
  // unreadable L2 table, a snapshot table that is none. The counts are then of no use, but that
  // check_errors is not 0. ("Check failed: " and its strerror are what qemu-img says.)
  int stopped_by = 0;
  // Why, if that was no finding: lines that qemu-img says before that as an error of its own.
  std::string stop_reason = "";

  uint64_t image_end_offset = 0;  // bytes: the end of the last cluster with a refcount
  uint64_t total_clusters = 0;    // of the virtual disk
  uint64_t allocated_clusters = 0;
  uint64_t fragmented_clusters = 0;
  uint64_t compressed_clusters = 0;

  bool is_clean() const { return corruptions == 0 && leaks == 0 && check_errors == 0; }
};

struct CheckOptions {
  // Called with a line for each finding, in qemu-img's words ("Leaked cluster 5 refcount=1
  // reference=0"), without a newline.
  std::function<void(absl::string_view)> report = [](absl::string_view) {};
};

// Compares every refcount with the references that the header, the L1 and L2 tables, the refcount
// structures, snapshots, bitmaps and the encryption header make; checks the COPIED flags, alignment
// and bounds (two tables in one place show as a wrong refcount). Reads only; the image must not be
// open for writing elsewhere. Backing files and external data files are not looked at.
//
// Memory and time are bounded by the size of the file, whatever its tables say: about a byte a
// cluster, only where something is referenced (see ReferenceCounts), and every table is walked
// once (see TableWalk). Fails only when the image cannot be checked at all (not qcow2, header
// unreadable or contradictory); what is wrong inside it is a finding.
Task<absl::StatusOr<CheckResult>> CheckImage(Disk& disk, CheckOptions options);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_H_
