#ifndef RINGCOW_QCOW2_IMAGE_CHAIN_H_
#define RINGCOW_QCOW2_IMAGE_CHAIN_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/rings.h"
#include "engine/task.h"
#include "qcow2/chain_files.h"
#include "qcow2/guest_disk.h"
#include "qcow2/image.h"
#include "qcow2/image_file.h"

namespace ringcow {

struct ImageChainOptions {
  ImageFileOptions file;  // of the image itself; its backing files are opened for reading
  // Of the image itself, but for `corruption`, which is told of all layers. read_only, backing and
  // data_file are set by the chain. copy_on_read is that of whatever the source says lies on the
  // image, too.
  OpenOptions image;
  // The backing file this far down is opened for writing, too: for committing to it.
  std::optional<size_t> also_writable = std::nullopt;
  // The image alone: what it does not have itself is not to be read.
  bool without_backing = false;
};

// An image with all its backing files, as one guest disk: what the image does not have is read from
// the file it names as its backing file, and so on.
//
// A backing file has the format that the header of its overlay names, else the one it looks like;
// it may also be described by options (see ImageSource). External data files are opened by the
// names in the headers, as QEMU does: a relative one begins in the current directory, whatever the
// image's is.
// The files are locked as long as the chain exists: the image and its data file for what the image
// is opened for, its backing files for reading.
class ImageChain final : public GuestDisk {
 public:
  struct Layer : ChainFiles {
    std::unique_ptr<GuestDisk> guest = nullptr;
    Image* image = nullptr;            // `guest`, or what lies below it, if it is qcow2
    BlkdebugDisk* blkdebug = nullptr;  // the uppermost one above the image
  };

  // `rings` must outlive the chain. `name` is one that SourceOf takes. Errors are those of
  // ImageFile::Open and Image::Open, without the image's name, and for its backing files the same
  // behind "Could not open backing file: ", once for each layer above.
  static Task<absl::StatusOr<std::unique_ptr<ImageChain>>> Open(Rings& rings, std::string name,
                                                                ImageChainOptions options);
  static Task<absl::StatusOr<std::unique_ptr<ImageChain>>> Open(Rings& rings, ImageSource source,
                                                                ImageChainOptions options);
  ~ImageChain() override;

  // The image itself first. Never empty.
  const std::vector<Layer>& layers() const { return layers_; }
  const ImageFile& file() const { return layers_.front().file; }
  // The image itself, if it is qcow2, for what only qcow2 has.
  Image* image() const { return layers_.front().image; }
  // The blkdebug above the image, or the one that it lies on, or null.
  BlkdebugDisk* blkdebug() const {
    const Layer& layer = layers_.front();
    return layer.blkdebug != nullptr ? layer.blkdebug : layer.file.host().blkdebug();
  }

  uint64_t size() const override { return top().size(); }
  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) override {
    return top().Read(offset, into);
  }
  // WriteZeroes instead, where a description says "detect-zeroes".
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override;
  Task<absl::Status> WriteCompressed(GuestOffset offset, std::span<const std::byte> from) override {
    return top().WriteCompressed(offset, from);
  }
  // These give back no space where a description says "discard": "ignore".
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) override;
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length) override;
  Task<absl::StatusOr<GuestExtent>> Find(GuestOffset offset, uint64_t length) override {
    return top().Find(offset, length);
  }
  Task<absl::StatusOr<bool>> AreKnownZero(GuestOffset offset, uint64_t length) override {
    return top().AreKnownZero(offset, length);
  }
  Task<absl::Status> Resize(uint64_t size, Preallocation preallocation) override {
    return top().Resize(size, preallocation);
  }
  Task<absl::Status> Flush() override { return top().Flush(); }
  // Closes all layers, also behind a failure, which is the first one: first all images, then what
  // their files lie in.
  Task<absl::Status> Close() override;
  // The one, and then the other, for who has to change the files of closed images.
  Task<absl::Status> CloseImages();
  Task<absl::Status> CloseFiles();
  // Of the image's own file.
  const DiskCounters& counters() const override { return top().counters(); }
  void ResetCounters() override { top().ResetCounters(); }

 private:
  ImageChain(std::vector<Layer> layers, bool ignores_discards, DetectZeroes detect_zeroes)
      : layers_(std::move(layers)),
        ignores_discards_(ignores_discards),
        detect_zeroes_(detect_zeroes) {}

  GuestDisk& top() const { return *layers_.front().guest; }

  std::vector<Layer> layers_;
  const bool ignores_discards_;
  const DetectZeroes detect_zeroes_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_IMAGE_CHAIN_H_
