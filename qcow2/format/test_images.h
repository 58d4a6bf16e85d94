#ifndef RINGCOW_QCOW2_FORMAT_TEST_IMAGES_H_
#define RINGCOW_QCOW2_FORMAT_TEST_IMAGES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "qcow2/format/header.h"

namespace ringcow {

// The header of a fresh, empty image of 64 MiB in 64 KiB clusters, as QEMU lays it out: refcount
// table, one refcount block and the L1 table in clusters 1, 2 and 3.
Header FreshHeader();
// The length of such an image: the L1 table of one entry is the last thing in it.
inline constexpr uint64_t kFreshFileBytes = 3 * 65536 + 8;

// Bytes to put into an image at an offset.
struct Patch {
  uint64_t offset;
  std::vector<std::byte> bytes;
};
Patch Patch8(uint64_t offset, uint8_t value);
Patch Patch32(uint64_t offset, uint32_t value);  // big-endian
Patch Patch64(uint64_t offset, uint64_t value);  // big-endian
Patch PatchText(uint64_t offset, const std::string& text);
void Apply(const std::vector<Patch>& patches, std::vector<std::byte>& bytes);

// A header that must be refused: what to do to a fresh one, and what is said about it.
struct BrokenHeader {
  std::string name;
  uint32_t version = 3;
  std::vector<Patch> patches;
  uint64_t file_bytes = kFreshFileBytes;
  absl::StatusCode code;
  std::string message;
  // QEMU refuses it in the same words. Where not, it opens the image, or its words are vaguer.
  bool same_in_qemu = true;
};
std::vector<BrokenHeader> BrokenHeaders();

// The first min(cluster, file_bytes) bytes of the image that `broken` describes.
std::vector<std::byte> BytesOf(const BrokenHeader& broken);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_TEST_IMAGES_H_
