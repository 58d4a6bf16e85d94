#ifndef RINGCOW_QCOW2_LEAK_H_
#define RINGCOW_QCOW2_LEAK_H_

#include "absl/status/status.h"

namespace ringcow {

// Marks a failure behind which everything is as it was to be, but for clusters that nobody uses any
// more and that are not free. OK stays OK.
absl::Status Leaking(absl::Status status);
bool IsLeaking(const absl::Status& status);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_LEAK_H_
