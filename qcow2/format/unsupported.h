#ifndef RINGCOW_QCOW2_FORMAT_UNSUPPORTED_H_
#define RINGCOW_QCOW2_FORMAT_UNSUPPORTED_H_

#include "absl/status/status.h"
#include "qcow2/format/header.h"

namespace ringcow {

// Ok when this build can read and write the guest data of an image with this header. Otherwise
// Unimplemented with the first reason: a backing file, internal snapshots, encryption, an external
// data file, or extended L2 entries. Info and such, which need only the header, do not ask.
// Compressed clusters do not show in the header: who meets their L2 entries refuses them.
absl::Status CheckSupported(const Header& header);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_UNSUPPORTED_H_
