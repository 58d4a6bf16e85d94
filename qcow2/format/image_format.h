#ifndef RINGCOW_QCOW2_FORMAT_IMAGE_FORMAT_H_
#define RINGCOW_QCOW2_FORMAT_IMAGE_FORMAT_H_

#include <cstddef>
#include <optional>
#include <span>

#include "absl/strings/string_view.h"

namespace ringcow {

enum class ImageFormat { kQcow2, kRaw };

// By the name users give to -f. Nothing for formats ringcow does not have.
std::optional<ImageFormat> FormatByName(absl::string_view name);
absl::string_view FormatName(ImageFormat format);

// How many bytes of the beginning of a file ProbeFormat looks at, at most.
inline constexpr size_t kProbeBytes = 512;

// The name of the format whose mark the file begins with; "raw" for no known mark. It may be one
// that ringcow does not have: taken for raw, writes would destroy such an image.
absl::string_view ProbeFormat(std::span<const std::byte> beginning);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_IMAGE_FORMAT_H_
