#include "cli/guessed_raw.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/format/image_format.h"

namespace ringcow {

Task<absl::Status> GuessedRaw::Write(GuestOffset offset, std::span<const std::byte> from) {
  if (offset.value() < kProbeBytes && !from.empty()) {
    // What the first block would be: a mark may be written in pieces.
    std::array<std::byte, kProbeBytes> block{};
    const size_t known = std::min<uint64_t>(kProbeBytes, size());
    CO_RETURN_IF_ERROR(co_await disk().Read(GuestOffset(0), std::span(block).first(known)));
    const size_t length = std::min<uint64_t>(from.size(), kProbeBytes - offset.value());
    std::memcpy(block.data() + offset.value(), from.data(), length);
    if (ProbeFormat(block) != "raw") {
      co_return ErrnoStatus(EPERM, "The first block of an image whose format was only guessed");
    }
  }
  co_return co_await disk().Write(offset, from);
}

void WarnAboutGuessedRaw(absl::string_view file_name) {
  absl::FPrintF(stderr,
                "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
                "         Automatically detecting the format is dangerous for raw images, write "
                "operations on block 0 will be restricted.\n"
                "         Specify the 'raw' format explicitly to remove the restrictions.\n",
                file_name);
}

}  // namespace ringcow
