#include "qcow2/failure_reason.h"

#include <cerrno>
#include <cstring>

#include "engine/errno_status.h"
#include "qcow2/corruption.h"

namespace ringcow {

std::string FailureReason(const absl::Status& status) {
  const int error = ErrnoOf(status);
  // An EIO of the host's makes a status of code kUnknown.
  const bool of_the_host = error != EIO || absl::IsUnknown(status);
  if (of_the_host || absl::IsOutOfRange(status) || WasTold(status)) return std::strerror(error);
  return std::string(status.message());
}

}  // namespace ringcow
