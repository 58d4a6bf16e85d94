#ifndef RINGCOW_ENGINE_ZEROES_H_
#define RINGCOW_ENGINE_ZEROES_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/task.h"

namespace ringcow {

// Whether all bytes are zero; true where there are none.
bool AreZeroes(std::span<const std::byte> bytes);

// Writes zeroes, as bytes. Any range; the disk grows to its end. Fails with the disk's error.
Task<absl::Status> WriteZeroBytes(Disk& disk, HostOffset offset, uint64_t length);

// The same by the disk itself where it can.
Task<absl::Status> ZeroOnDisk(Disk& disk, HostOffset offset, uint64_t length);

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_ZEROES_H_
