#include "qcow2/format/unsupported.h"

#include "absl/strings/str_format.h"

namespace ringcow {

absl::Status CheckSupported(const Header& header) {
  if (header.crypt_method != CryptMethod::kNone) {
    return absl::UnimplementedError(
        absl::StrFormat("The image is encrypted (%s); encryption is not supported yet",
                        header.crypt_method == CryptMethod::kAes ? "AES" : "LUKS"));
  }
  return absl::OkStatus();
}

}  // namespace ringcow
