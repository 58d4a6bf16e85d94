#include "qcow2/format/unsupported.h"

#include "absl/strings/str_format.h"

namespace ringcow {

absl::Status CheckSupported(const Header& header) {
  if (!header.backing_file.empty()) {
    return absl::UnimplementedError(
        absl::StrFormat("The image has a backing file ('%s'); backing files are not supported yet",
                        header.backing_file));
  }
  if (header.nb_snapshots != 0) {
    return absl::UnimplementedError(
        absl::StrFormat("The image has %d internal snapshot(s); snapshots are not supported yet",
                        header.nb_snapshots));
  }
  if (header.crypt_method != CryptMethod::kNone) {
    return absl::UnimplementedError(
        absl::StrFormat("The image is encrypted (%s); encryption is not supported yet",
                        header.crypt_method == CryptMethod::kAes ? "AES" : "LUKS"));
  }
  if ((header.incompatible_features & kIncompatibleExternalDataFile) != 0) {
    return absl::UnimplementedError(
        "The image keeps its data in an external data file; that is not supported yet");
  }
  if (header.extended_l2()) {
    return absl::UnimplementedError(
        "The image has extended L2 entries (subclusters); they are not supported yet");
  }
  return absl::OkStatus();
}

}  // namespace ringcow
