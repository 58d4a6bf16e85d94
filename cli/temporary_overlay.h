#ifndef RINGCOW_CLI_TEMPORARY_OVERLAY_H_
#define RINGCOW_CLI_TEMPORARY_OVERLAY_H_

#include <string>

#include "absl/status/statusor.h"
#include "cli/target.h"
#include "engine/task.h"

namespace ringcow {

// Opens an image so that it stays as it is: what is written goes to an overlay in TMPDIR (or
// /var/tmp), which has no name any more when this returns, and is gone with the target. Errors do
// not name the image.
Task<absl::StatusOr<Target>> OpenTemporaryOverlay(Host& host, std::string name,
                                                  TargetOptions options);

}  // namespace ringcow

#endif  // RINGCOW_CLI_TEMPORARY_OVERLAY_H_
