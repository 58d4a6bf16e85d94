#ifndef RINGCOW_QCOW2_REWORDED_H_
#define RINGCOW_QCOW2_REWORDED_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// The same failure in other words: with its code, and the errno, if one is attached.
absl::Status Reworded(const absl::Status& status, absl::string_view message);

// That of an image with `depth` others above it: behind "Could not open backing file: " for each.
absl::Status AtDepth(size_t depth, const absl::Status& status);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REWORDED_H_
