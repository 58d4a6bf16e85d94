#ifndef RINGCOW_QCOW2_REPAIR_HEADER_H_
#define RINGCOW_QCOW2_REPAIR_HEADER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/task.h"
#include "qcow2/format/header.h"
#include "qcow2/repair_refcounts.h"

namespace ringcow {

// Changes of single header fields. All of these are in the first sector, which a disk writes whole
// or not at all, and are durable afterwards; everything else stays as it is on disk.

// Of those bits that no repair keeps up to date: before anything else is written.
Task<absl::Status> ClearUnknownAutoclear(Disk& disk, const Header& header);
// `place` and what is there must be durable.
Task<absl::Status> SwitchRefcountTable(Disk& disk, const RefcountTablePlace& place);
// A snapshot table of `count` entries, which must be durable there.
Task<absl::Status> SwitchSnapshotTable(Disk& disk, HostOffset offset, uint32_t count);
// The dirty and the corrupt bit, when set.
Task<absl::Status> ClearDamageBits(Disk& disk, const Header& header);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REPAIR_HEADER_H_
