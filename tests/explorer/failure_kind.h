#ifndef RINGCOW_TESTS_EXPLORER_FAILURE_KIND_H_
#define RINGCOW_TESTS_EXPLORER_FAILURE_KIND_H_

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "engine/request.h"
#include "engine/testing/sim_disk.h"

namespace ringcow {

// The ways in which one request goes wrong; after kDeadDisk's all that follow do, too.
enum class FailureKind : uint8_t {
  kError,         // EIO, nothing done
  kErrorButDone,  // EIO, though the disk has it all
  kNoSpace,
  kShort,  // half of the bytes
  kCancelled,
  kDeadDisk,
};

inline constexpr std::array kAllFailureKinds = {FailureKind::kError,     FailureKind::kErrorButDone,
                                                FailureKind::kNoSpace,   FailureKind::kShort,
                                                FailureKind::kCancelled, FailureKind::kDeadDisk};

absl::string_view NameOf(FailureKind kind);

// What becomes of `request`.
Fault FaultOf(FailureKind kind, const Request& request);
// For SimDisk::SetFaults: request `n` fails.
SimDisk::FaultHook FailNth(FailureKind kind, uint64_t n);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_FAILURE_KIND_H_
