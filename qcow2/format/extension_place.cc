#include "qcow2/format/extension_place.h"

#include <algorithm>

#include "qcow2/format/big_endian.h"
#include "qcow2/format/header_extension.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

constexpr uint64_t kMagicAndLengthBytes = 8;

}  // namespace

std::optional<ExtensionPlace> FindExtension(std::span<const std::byte> header_cluster,
                                            uint64_t begin, uint64_t end, uint32_t magic) {
  end = std::min<uint64_t>(end, header_cluster.size());
  while (begin <= end && end - begin >= kMagicAndLengthBytes) {
    const auto found = LoadBe<uint32_t>(header_cluster.data() + begin);
    const uint64_t length = LoadBe<uint32_t>(header_cluster.data() + begin + sizeof(uint32_t));
    const ExtensionPlace place{begin, begin + kMagicAndLengthBytes,
                               begin + kMagicAndLengthBytes + AlignUp(length, uint64_t{8})};
    if (found == magic) {
      if (magic != kExtensionEnd && place.end > end) return std::nullopt;
      return place;
    }
    if (found == kExtensionEnd) return std::nullopt;
    begin = place.end;
  }
  return std::nullopt;
}

}  // namespace ringcow
