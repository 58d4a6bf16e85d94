#include "tests/explorer/failure_kind.h"

#include <cerrno>

namespace ringcow {

absl::string_view NameOf(FailureKind kind) {
  switch (kind) {
    case FailureKind::kError:
      return "Error";
    case FailureKind::kErrorButDone:
      return "ErrorButDone";
    case FailureKind::kNoSpace:
      return "NoSpace";
    case FailureKind::kShort:
      return "Short";
    case FailureKind::kCancelled:
      return "Cancelled";
    case FailureKind::kDeadDisk:
      return "DeadDisk";
  }
  return "?";
}

Fault FaultOf(FailureKind kind, const Request& request) {
  switch (kind) {
    case FailureKind::kError:
    case FailureKind::kDeadDisk:
      return Fault::Error(EIO);
    case FailureKind::kErrorButDone:
      return request.op == Op::kRead ? Fault::Error(EIO) : Fault::Error(EIO, Fault::kAll);
    case FailureKind::kNoSpace:
      return Fault::Error(ENOSPC);
    case FailureKind::kShort:
      return request.is_transfer() ? Fault::Short(request.length / 1024 * 512) : Fault::None();
    case FailureKind::kCancelled:
      return Fault::Error(ECANCELED);
  }
  return Fault::None();
}

SimDisk::FaultHook FailNth(FailureKind kind, uint64_t n) {
  return [kind, n](const Request& request, uint64_t ordinal) {
    const bool fails = ordinal == n || (kind == FailureKind::kDeadDisk && ordinal > n);
    return fails ? FaultOf(kind, request) : Fault::None();
  };
}

}  // namespace ringcow
