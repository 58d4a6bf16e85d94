#ifndef RINGCOW_QCOW2_FAILURE_REASON_H_
#define RINGCOW_QCOW2_FAILURE_REASON_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// What qemu-io says of a failed request: the errno alone. That of a request beyond the end of the
// disk is EIO, and so is that of damage that a CorruptionListener was told of. Where no errno is
// behind a failure (unreadable metadata), our own sentence.
std::string FailureReason(const absl::Status& status);

// `status` as the failure of `what`: "what: reason", which is said even where the damage behind it
// was told. OK stays OK.
absl::Status FailureOf(absl::string_view what, const absl::Status& status);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FAILURE_REASON_H_
