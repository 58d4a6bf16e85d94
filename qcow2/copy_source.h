#ifndef RINGCOW_QCOW2_COPY_SOURCE_H_
#define RINGCOW_QCOW2_COPY_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/task.h"
#include "qcow2/guest_disk.h"
#include "qcow2/image_chain.h"

namespace ringcow {

// Bytes of a source that are to be copied alike.
struct CopyPiece {
  enum class Kind {
    kData,
    kZero,
    kBacking,  // the target's backing file has them
  };

  Kind kind = Kind::kData;
  uint64_t bytes = 0;
};

// Where bytes lie in a file.
struct FileBytes {
  int fd = -1;
  uint64_t offset = 0;
};

// What is to be copied: images, one behind the other, each with all its backing files.
class CopySource {
 public:
  // The chains must outlive the source.
  explicit CopySource(std::vector<const ImageChain*> images) : images_(std::move(images)) {}
  // Of an image, only what its upper layers have, the image itself first, at least that. The
  // target, or its backing file, has the rest. Where it ends (at `backing_bytes`) zeroes need no
  // copy. The layers must outlive the source.
  explicit CopySource(std::vector<GuestDisk*> layers, uint64_t backing_bytes = ~uint64_t{0})
      : layers_(std::move(layers)), backing_bytes_(backing_bytes) {}

  uint64_t size() const;

  // What the bytes from `offset` on are, at least one of them, at most `length` > 0; all inside.
  Task<absl::StatusOr<CopyPiece>> Find(uint64_t offset, uint64_t length) const;
  Task<absl::Status> Read(uint64_t offset, std::span<std::byte> into) const;
  // Where the bytes are, if metadata at hand tells that they are stored as they are, in one piece.
  // Of images only.
  std::optional<FileBytes> TryLocate(uint64_t offset, uint64_t length) const;

 private:
  struct Place {
    const ImageChain* image = nullptr;
    uint64_t offset = 0;  // in it
  };
  Place PlaceOf(uint64_t offset) const;
  Task<absl::StatusOr<CopyPiece>> FindInLayers(uint64_t offset, uint64_t length) const;

  const std::vector<const ImageChain*> images_;
  const std::vector<GuestDisk*> layers_;  // instead of images
  const uint64_t backing_bytes_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_COPY_SOURCE_H_
