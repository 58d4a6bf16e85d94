#ifndef RINGCOW_QCOW2_FORMAT_RESERVE_RECORD_H_
#define RINGCOW_QCOW2_FORMAT_RESERVE_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "qcow2/format/units.h"

namespace ringcow {

// What an open image has reserved (see Reservation), so that it can be given back after a crash
// without looking through all of the image: clusters with a refcount of one to which nothing may
// refer. What does refer to them is the header or an entry of the refcount table, of the active L1
// table, or of an L2 table that an L1 entry in [l1_begin, l1_end) names.
//
// It is the last sector of the header's cluster, which the format leaves to nobody, and counts as
// long as kAutoclearReserveRecord is set: whoever writes to the image without knowing it clears
// that. One sector, so that it changes at once. (In the list of header extensions it would have to
// go around the backing file's name, and could lie across sectors.)
struct ReserveRecord {
  static constexpr size_t kBytes = 512;
  // Where it is: a byte offset, in images whose clusters are larger than it.
  static constexpr uint64_t PlaceIn(uint64_t cluster_bytes) { return cluster_bytes - kBytes; }
  static constexpr size_t kMostRuns = 29;
  // Of all runs together: what a record makes its reader look for.
  static constexpr uint64_t kMostClusters = 65536;

  std::vector<ClusterRun> runs;  // sorted, disjoint, none empty
  uint64_t l1_begin = 0;
  uint64_t l1_end = 0;

  // `run` overlaps no other. False, with nothing changed, where there is no room for it.
  bool Add(ClusterRun run);
};

// `into` is kBytes long.
void EncodeReserveRecord(const ReserveRecord& record, std::span<std::byte> into);

// Nothing for what is no such record, whole and with its checksum.
std::optional<ReserveRecord> DecodeReserveRecord(std::span<const std::byte> from);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_RESERVE_RECORD_H_
