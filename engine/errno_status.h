#ifndef RINGCOW_ENGINE_ERRNO_STATUS_H_
#define RINGCOW_ENGINE_ERRNO_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// "<what>: <strerror(error)>" with the canonical code of `error` (a positive errno), and the errno
// itself attached.
absl::Status ErrnoStatus(int error, absl::string_view what);

// Whether an errno is attached: the failure is the host's, not one of what was read from it.
bool HasErrno(const absl::Status& status);

// The errno attached to a status by ErrnoStatus. Else 0 for OK, EIO for anything that carries none.
int ErrnoOf(const absl::Status& status);

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_ERRNO_STATUS_H_
