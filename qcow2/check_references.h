#ifndef RINGCOW_QCOW2_CHECK_REFERENCES_H_
#define RINGCOW_QCOW2_CHECK_REFERENCES_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/host_offset.h"
#include "engine/task.h"
#include "qcow2/check_findings.h"
#include "qcow2/check_ranges.h"
#include "qcow2/check_table_walk.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/reference_counts.h"

namespace ringcow {

// Counts the references that an image's structures make to host clusters, and reports those that
// point beyond the end of the file or are more than a refcount can hold.
class ReferenceCounter {
 public:
  ReferenceCounter(const Geometry& geometry, uint64_t file_size, Findings& findings);

  // Counts `weight` references to each cluster that has some of the bytes.
  void AddRange(HostOffset offset, uint64_t bytes, uint64_t weight = 1);
  // The same for tables that may overlap each other.
  void AddTables(const std::vector<WeightedRange>& tables);

  // Whether something was refused for its place beyond the end of the file: a file that grows to
  // there would make that entry valid, on whatever is put there.
  bool found_beyond_file() const { return found_beyond_file_; }
  void set_found_beyond_file(bool found) { found_beyond_file_ = found; }

  // Whether nothing but the `uses` references to it that were counted claims the cluster at
  // `offset`: then, and only then, a repair may write there.
  bool IsClaimedBy(HostOffset offset, uint64_t uses) const;

  // How many clusters the file has. The last may be there in part, or, when something that is not
  // aligned ends there, not at all.
  uint64_t clusters() const { return clusters_; }
  ReferenceCounts& counts() { return counts_; }
  const Geometry& geometry() const { return geometry_; }
  Findings& findings() { return findings_; }

 private:
  // The file may end within the last cluster of what it holds, but not before it.
  bool EndsBeyondFile(HostOffset offset, uint64_t bytes) const;
  void AddClusters(uint64_t begin, uint64_t end, uint64_t weight);

  const Geometry geometry_;
  const uint64_t file_size_;  // in whole sectors, as QEMU has it
  Findings& findings_;
  uint64_t clusters_;
  bool found_beyond_file_ = false;
  ReferenceCounts counts_;
};

// Counts what L1 entries and L2 tables refer to, and checks each entry by itself.
class ReferenceVisitor final : public TableVisitor {
 public:
  // `external_data`: guest data is in a file of its own, and host offsets of data are offsets in
  // that one.
  // `leaves_unaligned_zeroes`: entries of which IsUnalignedZero is true are neither reported nor
  // counted as references.
  ReferenceVisitor(ReferenceCounter& counter, bool external_data, bool leaves_unaligned_zeroes)
      : counter_(counter),
        external_data_(external_data),
        leaves_unaligned_zeroes_(leaves_unaligned_zeroes) {}

  // Whether there were any.
  bool left_unaligned_zeroes() const { return left_unaligned_zeroes_; }

  Task<absl::Status> VisitL1Entry(uint64_t raw, uint64_t index, uint64_t weight) override;
  Task<absl::Status> VisitL2Table(HostOffset offset, std::span<const std::byte> table,
                                  const L2Use& use) override;

 private:
  // One L2 entry; `subclusters` is its bitmap, 0 in images without.
  struct Place {
    uint64_t raw;
    uint64_t subclusters;
    uint64_t index;
  };

  void CheckEntry(const Place& place, const L2Use& use, HostOffset& next_contiguous);
  void CheckCompressed(const Place& place, const L2Use& use);
  void CheckAllocated(const Place& place, const L2Use& use, HostOffset& next_contiguous);

  ReferenceCounter& counter_;
  const bool external_data_;
  const bool leaves_unaligned_zeroes_;
  bool left_unaligned_zeroes_ = false;
};

// The kind of an L2 entry as it counts for a check, which differs from that of I/O where there are
// subclusters (the bitmap says what reads as zeroes) or an external data file (offset 0 is data).
L2Entry::Kind KindForCheck(uint64_t raw, bool extended_l2, bool external_data);

// Whether an entry, with its bitmap if it is an extended one, reads as zeroes whatever is in its
// cluster, but names a place where there can be no cluster.
bool IsUnalignedZero(const Geometry& geometry, bool external_data, uint64_t raw,
                     uint64_t subclusters);
// What a check says of an entry that names such a place; `what` is "ERROR" or "Repairing".
std::string UnalignedEntryLine(absl::string_view what, uint64_t raw, bool has_data);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_REFERENCES_H_
