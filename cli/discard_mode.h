#ifndef RINGCOW_CLI_DISCARD_MODE_H_
#define RINGCOW_CLI_DISCARD_MODE_H_

#include <memory>
#include <optional>

#include "absl/strings/string_view.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// Whether space that a guest needs no more is given back (QEMU's -d): "unmap" or "on", "ignore" or
// "off".
enum class DiscardMode { kUnmap, kIgnore };

// Nothing for a mode that does not exist.
std::optional<DiscardMode> ParseDiscardMode(absl::string_view mode);

// `disk`; with kIgnore its discards do nothing, and zeroes keep their space.
std::unique_ptr<GuestDisk> ApplyDiscardMode(DiscardMode mode, std::unique_ptr<GuestDisk> disk);

}  // namespace ringcow

#endif  // RINGCOW_CLI_DISCARD_MODE_H_
