#include "qcow2/format/unsupported.h"

#include "absl/strings/str_format.h"

namespace ringcow {

absl::Status CheckSupported(const Header& header) {
  if (header.crypt_method != CryptMethod::kNone) {
    return absl::UnimplementedError(
        absl::StrFormat("The image is encrypted (%s); encryption is not supported yet",
                        header.crypt_method == CryptMethod::kAes ? "AES" : "LUKS"));
  }
  if ((header.incompatible_features & kIncompatibleExternalDataFile) != 0) {
    return absl::UnimplementedError(
        "The image keeps its data in an external data file; that is not supported yet");
  }
  return absl::OkStatus();
}

}  // namespace ringcow
