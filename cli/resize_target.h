#ifndef RINGCOW_CLI_RESIZE_TARGET_H_
#define RINGCOW_CLI_RESIZE_TARGET_H_

#include <cstdint>

#include "absl/status/status.h"
#include "cli/target.h"
#include "engine/task.h"
#include "qcow2/format/options.h"

namespace ringcow {

// Gives an image a new size, with the complaints of QEMU's tools.
Task<absl::Status> ResizeTarget(const Target& target, uint64_t size, Preallocation preallocation);

}  // namespace ringcow

#endif  // RINGCOW_CLI_RESIZE_TARGET_H_
