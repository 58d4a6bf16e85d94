#ifndef RINGCOW_CLI_LOST_BITMAPS_H_
#define RINGCOW_CLI_LOST_BITMAPS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"

namespace ringcow {

// What QEMU says, twice and in its own order, beside "Error while closing the image", when an image
// could not be closed because its bitmaps could not be stored; nothing for other failures. Nodes
// have no names here, so that the one in it is made up.
std::optional<std::string> LostBitmaps(const absl::Status& closed);

// Beside that, with the errno that QEMU makes of every such failure.
inline constexpr char kErrorWhileClosing[] = "Error while closing the image: Invalid argument";

}  // namespace ringcow

#endif  // RINGCOW_CLI_LOST_BITMAPS_H_
