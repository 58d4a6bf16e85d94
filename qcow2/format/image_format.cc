#include "qcow2/format/image_format.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

namespace ringcow {
namespace {

struct Mark {
  absl::string_view format;
  size_t offset = 0;
  absl::string_view bytes;
};

constexpr absl::string_view Bytes(const char* bytes, size_t length) { return {bytes, length}; }

// The first that is there counts. Version 1 of qcow2 is another format; a version that does not
// exist is for the parser to refuse.
constexpr std::array<Mark, 10> kMarks = {{
    {"qcow", 0, Bytes("QFI\xfb\0\0\0\1", 8)},
    {"qcow2", 0, Bytes("QFI\xfb", 4)},
    {"qed", 0, Bytes("QED\0", 4)},
    {"luks", 0, Bytes("LUKS\xba\xbe", 6)},
    {"vmdk", 0, Bytes("KDMV", 4)},
    {"vmdk", 0, Bytes("COWD", 4)},
    {"vhdx", 0, Bytes("vhdxfile", 8)},
    {"vpc", 0, Bytes("conectix", 8)},
    {"vdi", 64, Bytes("\x7f\x10\xda\xbe", 4)},
    {"parallels", 0, Bytes("WithoutFreeSpace", 16)},
}};

}  // namespace

std::optional<ImageFormat> FormatByName(absl::string_view name) {
  if (name == "qcow2") return ImageFormat::kQcow2;
  if (name == "raw") return ImageFormat::kRaw;
  return std::nullopt;
}

absl::string_view FormatName(ImageFormat format) {
  return format == ImageFormat::kQcow2 ? "qcow2" : "raw";
}

absl::string_view ProbeFormat(std::span<const std::byte> beginning) {
  const absl::string_view text(reinterpret_cast<const char*>(beginning.data()), beginning.size());
  for (const Mark& mark : kMarks) {
    if (text.size() >= mark.offset && text.substr(mark.offset, mark.bytes.size()) == mark.bytes) {
      return mark.format;
    }
  }
  return "raw";
}

}  // namespace ringcow
