#ifndef RINGCOW_ENGINE_TESTING_DISK_IMAGE_H_
#define RINGCOW_ENGINE_TESTING_DISK_IMAGE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ringcow {

// The bytes of a disk in memory. Sparse: only blocks that were written cost memory, so a disk of
// terabytes is fine. Copies share their blocks until one of them writes: building thousands of
// crash states from one base costs what differs between them.
//
// Offsets and lengths are bytes of any alignment. What lies beyond size() reads as zeroes and holds
// nothing: growing shows zeroes. Copies may be used by different threads, one image may not.
class DiskImage {
 public:
  static constexpr size_t kBlockBytes = 4096;

  DiskImage() = default;

  // Reads all of a file; its holes stay holes.
  static absl::StatusOr<DiskImage> LoadFile(const std::string& path);
  // Writes a sparse file of size() bytes, for tools that look at files.
  absl::Status SaveFile(const std::string& path) const;

  uint64_t size() const { return size_; }
  // What lies beyond a smaller size is gone, also if the disk grows again.
  void Resize(uint64_t size);

  void Read(uint64_t offset, std::span<std::byte> into) const;
  // Grows the disk to the end of what is written.
  void Write(uint64_t offset, std::span<const std::byte> bytes);
  // Never grows the disk. Whole blocks are given back.
  void Zero(uint64_t offset, uint64_t length);

  // Memory held, shared or not.
  size_t blocks() const;

  // Equal for images of equal size and bytes; different ones collide as 64-bit hashes do. Blocks
  // shared with an image that was asked before are not looked at again.
  uint64_t Fingerprint() const;
  friend bool operator==(const DiskImage& a, const DiskImage& b);

 private:
  static constexpr size_t kBlocksPerLeaf = 64;

  struct Block {
    std::array<std::byte, kBlockBytes> bytes{};
    mutable std::atomic<uint64_t> hash = 0;  // 0: not known

    Block() = default;
    Block(const Block& other) : bytes(other.bytes) {}
    Block& operator=(const Block&) = delete;
    uint64_t Hash() const;
  };
  using Leaf = std::array<std::shared_ptr<Block>, kBlocksPerLeaf>;

  const Block* Find(uint64_t block) const;
  Block& ForWriting(uint64_t block);
  std::shared_ptr<Leaf>* FindLeaf(uint64_t leaf);
  void DropBlocks(uint64_t begin, uint64_t end);
  // Calls visit(block number, Block) for each block there is, in order.
  template <typename Visit>
  void ForEachBlock(Visit visit) const;

  uint64_t size_ = 0;
  std::vector<std::pair<uint64_t, std::shared_ptr<Leaf>>> leaves_;  // by leaf number
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_TESTING_DISK_IMAGE_H_
