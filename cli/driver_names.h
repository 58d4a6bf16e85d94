#ifndef RINGCOW_CLI_DRIVER_NAMES_H_
#define RINGCOW_CLI_DRIVER_NAMES_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// Whether QEMU has a block driver of this name; ringcow may have none.
bool IsDriver(absl::string_view name);

// For a format that ringcow cannot make, in qemu-img's words.
absl::Status CannotCreate(absl::string_view format);

}  // namespace ringcow

#endif  // RINGCOW_CLI_DRIVER_NAMES_H_
