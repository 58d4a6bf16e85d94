#ifndef RINGCOW_QCOW2_PREALLOCATE_H_
#define RINGCOW_QCOW2_PREALLOCATE_H_

#include "absl/status/status.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/options.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"

namespace ringcow {

// Gives every guest cluster from `begin` on, none of which has one, a host cluster that reads as
// zeroes: reserved by the size of the file alone (kMetadata), by fallocate (kFalloc), or by written
// zeroes (kFull). In memory, as far as tables are concerned: a flush must follow. A fresh image is
// laid out as QEMU's is; nothing in it lies behind `end` before. An external data file reads as
// zeroes from `begin` on before.
Task<absl::Status> Preallocate(Metadata& metadata, Allocator& allocator, Mapper& mapper,
                               GuestOffset begin, HostOffset end, Preallocation preallocation);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_PREALLOCATE_H_
