#include "qcow2/failure_reason.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/errno_status.h"
#include "qcow2/corruption.h"
#include "qcow2/reworded.h"

namespace ringcow {

std::string FailureReason(const absl::Status& status) {
  const int error = ErrnoOf(status);
  // An EIO of the host's makes a status of code kUnknown.
  const bool of_the_host = error != EIO || absl::IsUnknown(status);
  if (of_the_host || absl::IsOutOfRange(status) || WasTold(status)) return std::strerror(error);
  return std::string(status.message());
}

absl::Status FailureOf(absl::string_view what, const absl::Status& status) {
  if (status.ok()) return status;
  return Reworded(Untold(status), absl::StrCat(what, ": ", FailureReason(status)));
}

}  // namespace ringcow
