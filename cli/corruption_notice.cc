#include "cli/corruption_notice.h"

#include <cstdio>

#include "absl/strings/str_format.h"

namespace ringcow {

void CorruptionNotice::Met(absl::string_view what, Image image) {
  const bool is_marked = image == Image::kIsMarked;
  absl::FPrintF(stderr, "qcow2: %s: %s; further %scorruption events will be suppressed\n",
                is_marked ? "Marking image as corrupt" : "Image is corrupt", what,
                is_marked ? "" : "non-fatal ");
}

}  // namespace ringcow
