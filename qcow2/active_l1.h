#ifndef RINGCOW_QCOW2_ACTIVE_L1_H_
#define RINGCOW_QCOW2_ACTIVE_L1_H_

#include <vector>

#include "absl/status/status.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/metadata.h"

namespace ringcow {

// The entries of the active L1 table.
std::vector<L1Entry> ActiveL1(const Metadata& metadata);

// Makes a new table of `entries` (and of unallocated ones, as many as `geometry` needs) the active
// L1 table, with the virtual size of `geometry`: durably, by one write of the header's sector. The
// old table's clusters are given back. What the entries refer to is durable; no guest request is
// under way.
//
// On an error the old table stays; unless the header could not be written, then the new one counts
// in memory, and the next flush writes it.
Task<absl::Status> ReplaceActiveL1(Metadata& metadata, Allocator& allocator,
                                   std::vector<L1Entry> entries, Geometry geometry);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_ACTIVE_L1_H_
