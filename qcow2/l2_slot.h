#ifndef RINGCOW_QCOW2_L2_SLOT_H_
#define RINGCOW_QCOW2_L2_SLOT_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/host_offset.h"
#include "qcow2/format/extended_l2_entry.h"
#include "qcow2/format/geometry.h"

namespace ringcow {

// Entries of L2 tables of both kinds, in the form that has subclusters: an entry without them is
// one whose subclusters are all alike. `slot` counts entries from the beginning of `table`.

ExtendedL2Entry LoadL2Slot(const Geometry& geometry, std::span<const std::byte> table,
                           uint64_t slot);
// Without extended L2 entries all subclusters of `entry` are alike.
void StoreL2Slot(const Geometry& geometry, std::span<std::byte> table, uint64_t slot,
                 ExtendedL2Entry entry);
// As they are stored: InvalidArgument, with the place, for an entry that contradicts the format.
absl::Status ValidateL2Slot(const Geometry& geometry, std::span<const std::byte> table,
                            HostOffset table_offset, uint64_t slot);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_L2_SLOT_H_
