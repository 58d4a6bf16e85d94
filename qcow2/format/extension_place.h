#ifndef RINGCOW_QCOW2_FORMAT_EXTENSION_PLACE_H_
#define RINGCOW_QCOW2_FORMAT_EXTENSION_PLACE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace ringcow {

// Where a header extension lies in the header's cluster, for changing it in place. Byte offsets.
struct ExtensionPlace {
  uint64_t begin = 0;    // of its magic number and length, 8 bytes at a multiple of 8
  uint64_t payload = 0;  // behind them
  uint64_t end = 0;      // of the padding, where the next extension begins
};

// Of the first extension with this magic number, which may be kExtensionEnd, in the list in bytes
// [begin, end) of `header_cluster`, which is one that ParseHeaderExtensions accepts. Nothing when
// it is not there, or lies behind what is given of the cluster.
std::optional<ExtensionPlace> FindExtension(std::span<const std::byte> header_cluster,
                                            uint64_t begin, uint64_t end, uint32_t magic);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_EXTENSION_PLACE_H_
