#ifndef RINGCOW_QCOW2_L2_SLOT_H_
#define RINGCOW_QCOW2_L2_SLOT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "cache/table_cache.h"
#include "qcow2/format/extended_l2_entry.h"
#include "qcow2/format/geometry.h"
#include "qcow2/metadata.h"

namespace ringcow {

// Entries of L2 tables of both kinds, in the form that has subclusters: an entry without them is
// one whose subclusters are all alike. `slot` counts entries from the beginning of `table`.

// What COPIED says of offset 0 counts in images with an external data file only.
ExtendedL2Entry LoadL2Slot(const Metadata& metadata, std::span<const std::byte> table,
                           uint64_t slot);
// Without extended L2 entries all subclusters of `entry` are alike.
void StoreL2Slot(const Geometry& geometry, std::span<std::byte> table, uint64_t slot,
                 ExtendedL2Entry entry);
// What QEMU ignores in an entry is not looked at: see ExtendedL2Entry::WithoutUnused.
// InvalidArgument, with the place, for an entry that contradicts the format, or that refers to
// where no data can be (see Metadata::CheckPlace). Which guest cluster an entry is for is not known
// here: see Mapper for what an external data file asks of it.
absl::StatusOr<ExtendedL2Entry> ValidL2Slot(const Metadata& metadata, const TablePin& table,
                                            uint64_t slot);

// The entry, where nothing is wrong with it but that its host cluster is not aligned, or that its
// subclusters mean nothing, which are zeroes then: for who changes all of the guest cluster.
// Nothing in images with an external data file.
std::optional<ExtendedL2Entry> RemovableL2Slot(const Metadata& metadata, const TablePin& table,
                                               uint64_t slot);
bool IsAligned(const Geometry& geometry, L2Entry entry);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_L2_SLOT_H_
