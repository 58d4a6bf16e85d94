#ifndef RINGCOW_CLI_GUESSED_RAW_H_
#define RINGCOW_CLI_GUESSED_RAW_H_

#include <memory>
#include <utility>

#include "absl/strings/string_view.h"
#include "cli/program.h"
#include "qcow2/forwarding_disk.h"

namespace ringcow {

// A raw image that nobody declared as one. A guest that could write the mark of another format into
// its first block would have the next program that guesses take it for that format, and follow a
// backing file name of the guest's choice into the host's files. Such writes are refused (EPERM).
class GuessedRaw final : public ForwardingDisk {
 public:
  using ForwardingDisk::ForwardingDisk;

  // Zeroes are nobody's mark: only writes are looked at.
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override;
};

// Tells on stderr what GuessedRaw will refuse, and how to avoid it.
void WarnAboutGuessedRaw(absl::string_view file_name);

}  // namespace ringcow

#endif  // RINGCOW_CLI_GUESSED_RAW_H_
