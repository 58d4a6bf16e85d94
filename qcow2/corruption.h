#ifndef RINGCOW_QCOW2_CORRUPTION_H_
#define RINGCOW_QCOW2_CORRUPTION_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// What is wrong in an image itself, in QEMU's words, carried along in the status of the request
// that met it: whoever has the image open for writing marks it as corrupt.
struct Corruption {
  enum class Kind : uint8_t {
    kEntry,    // an entry that means nothing, whoever follows it
    kOverlap,  // a place that is something else's too: no harm before it is written to
  };

  Kind kind = Kind::kEntry;
  std::string what;
};

// `status`, not OK, with `corruption` attached.
absl::Status WithCorruption(absl::Status status, Corruption::Kind kind, absl::string_view what);
std::optional<Corruption> CorruptionOf(const absl::Status& status);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CORRUPTION_H_
