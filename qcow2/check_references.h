#ifndef RINGCOW_QCOW2_CHECK_REFERENCES_H_
#define RINGCOW_QCOW2_CHECK_REFERENCES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
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
  ReferenceCounts counts_;
};

// Counts what L1 entries and L2 tables refer to, and checks each entry by itself.
class ReferenceVisitor final : public TableVisitor {
 public:
  // `external_data`: guest data is in a file of its own, and host offsets of data are offsets in
  // that one.
  ReferenceVisitor(ReferenceCounter& counter, bool external_data)
      : counter_(counter), external_data_(external_data) {}

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
};

// The kind of an L2 entry as it counts for a check, which differs from that of I/O where there are
// subclusters (the bitmap says what reads as zeroes) or an external data file (offset 0 is data).
L2Entry::Kind KindForCheck(uint64_t raw, bool extended_l2, bool external_data);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_REFERENCES_H_
