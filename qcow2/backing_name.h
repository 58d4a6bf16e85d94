#ifndef RINGCOW_QCOW2_BACKING_NAME_H_
#define RINGCOW_QCOW2_BACKING_NAME_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// The path of the local file that `name` means, on a command line or in a header: "disk.qcow2",
// "file:disk.qcow2". UnknownProtocol for the names of others ("nbd:...").
absl::StatusOr<std::string> LocalPath(absl::string_view name);

// The backing file `name` of the image at `path`, as LocalPath takes it: a relative path begins in
// the image's directory, a name with a protocol stays as it is.
std::string FullBackingPath(absl::string_view path, absl::string_view name);

// Whether nobody knows where that is: the name is relative, and the image is in no file with a
// path.
bool IsLost(absl::string_view path, absl::string_view name);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BACKING_NAME_H_
