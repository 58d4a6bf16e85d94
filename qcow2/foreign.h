#ifndef RINGCOW_QCOW2_FOREIGN_H_
#define RINGCOW_QCOW2_FOREIGN_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// "Unknown driver 'x'", and the same for a protocol, which is what a name begins with. Foreign
// where QEMU has it: what such a file holds only ringcow does not know. Else nobody does.
absl::Status UnknownDriver(absl::string_view driver);
absl::Status UnknownProtocol(absl::string_view protocol);

// The failure to open what only ringcow does not know.
absl::Status AsForeign(absl::Status status);
bool IsForeign(const absl::Status& status);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FOREIGN_H_
