#ifndef RINGCOW_QCOW2_OVERLAP_CHECK_OPTION_H_
#define RINGCOW_QCOW2_OVERLAP_CHECK_OPTION_H_

#include <optional>

#include "absl/status/statusor.h"
#include "qcow2/image_description.h"
#include "qcow2/overlap_guard.h"

namespace ringcow {

// Takes "overlap-check", a template, and "overlap-check.*", which add to it and take from it.
// Nothing when none is given; InvalidArgument in QEMU's words.
absl::StatusOr<std::optional<OverlapCheck>> TakeOverlapCheck(ImageDescription& options);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_OVERLAP_CHECK_OPTION_H_
