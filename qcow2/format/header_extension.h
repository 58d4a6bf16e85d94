#ifndef RINGCOW_QCOW2_FORMAT_HEADER_EXTENSION_H_
#define RINGCOW_QCOW2_FORMAT_HEADER_EXTENSION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qcow2/format/feature_bits.h"

namespace ringcow {

// The magic numbers of header extensions.
inline constexpr uint32_t kExtensionEnd = 0x00000000;
inline constexpr uint32_t kExtensionBackingFormat = 0xe2792aca;
inline constexpr uint32_t kExtensionExternalDataFile = 0x44415441;
inline constexpr uint32_t kExtensionCryptoHeader = 0x0537be77;
inline constexpr uint32_t kExtensionBitmaps = 0x23852875;
inline constexpr uint32_t kExtensionFeatureNameTable = 0x6803f857;

struct FeatureName {
  FeatureType type;
  uint8_t bit;       // 0 to 63
  std::string name;  // at most 46 bytes, not zero-terminated
};

struct RawExtension {
  uint32_t magic;
  std::vector<std::byte> payload;  // without the padding
};

// What follows the header proper: a list of (magic, length, payload padded to 8 bytes) that ends
// with kExtensionEnd, or where the backing file name or the first cluster's end begins.
struct HeaderExtensions {
  std::optional<std::string> backing_format;      // not empty in an image QEMU made
  std::optional<std::string> external_data_file;  // a path, as stored

  // Payloads of known extensions whose features this build does not read; written back unchanged.
  std::optional<std::vector<std::byte>> crypto_header;
  std::optional<std::vector<std::byte>> bitmaps;

  // The image's own table. It is only for messages: a header is written with kKnownFeatures.
  std::vector<FeatureName> feature_names;

  // In the image's order; written back unchanged, in that order, behind the known ones.
  std::vector<RawExtension> unknown;
};

// Parses the list in bytes [begin, end) of the header cluster. `header_cluster` may be shorter
// than `end` where the file is: the missing bytes read as zeroes, that is, as the end of the list.
// `begin` is the header length; `end` is the backing file name's offset if there is one, else the
// cluster size. InvalidArgument, naming the extension and its offset, when a length does not fit.
// Memory used is bounded by the size of `header_cluster`.
absl::StatusOr<HeaderExtensions> ParseHeaderExtensions(std::span<const std::byte> header_cluster,
                                                       uint64_t begin, uint64_t end);

// Appends the list, with its end marker, as QEMU orders it: backing format, external data file,
// crypto header, feature name table (if `with_feature_names`), bitmaps, unknown ones, end.
void AppendHeaderExtensions(const HeaderExtensions& extensions, bool with_feature_names,
                            std::vector<std::byte>& out);

// Ok when `incompatible_features` has known bits only. Otherwise Unimplemented, "Unsupported qcow2
// feature(s): a, b", with the names that `names` gives and the rest in hexadecimal.
absl::Status CheckIncompatibleFeatures(uint64_t incompatible_features,
                                       std::span<const FeatureName> names);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_HEADER_EXTENSION_H_
