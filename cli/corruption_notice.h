#ifndef RINGCOW_CLI_CORRUPTION_NOTICE_H_
#define RINGCOW_CLI_CORRUPTION_NOTICE_H_

#include "absl/strings/string_view.h"
#include "qcow2/corruption.h"

namespace ringcow {

// Says on stderr, in QEMU's words, what is wrong with an image. Requests that met it only say that
// there was an I/O error (see MessageOf).
class CorruptionNotice final : public CorruptionListener {
 public:
  void Met(absl::string_view what, Image image) override;
};

}  // namespace ringcow

#endif  // RINGCOW_CLI_CORRUPTION_NOTICE_H_
