#ifndef RINGCOW_QCOW2_FORMAT_UNSUPPORTED_H_
#define RINGCOW_QCOW2_FORMAT_UNSUPPORTED_H_

#include "absl/status/status.h"
#include "qcow2/format/header.h"

namespace ringcow {

// Ok when this build can read and write the guest data of an image with this header. Otherwise
// Unimplemented with the reason: encryption. Info and such, which need only the header, do not ask.
absl::Status CheckSupported(const Header& header);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_UNSUPPORTED_H_
