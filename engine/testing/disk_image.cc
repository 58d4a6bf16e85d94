#include "engine/testing/disk_image.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"

namespace ringcow {
namespace {

constexpr size_t kTransferBytes = size_t{1} << 20;
constexpr uint64_t kHashOfZeroes = 1;  // 0: not known

uint64_t Mix(uint64_t value) {
  for (int round = 0; round < 3; ++round) {
    value *= 0x9e3779b97f4a7c15;
    value ^= value >> 32;
  }
  return value;
}

// Calls part(block, begin within the block, length) for each block that [offset, end) touches.
template <typename Part>
void ForEachPart(uint64_t offset, uint64_t end, Part part) {
  while (offset < end) {
    const uint64_t within = offset % DiskImage::kBlockBytes;
    const uint64_t length = std::min<uint64_t>(end - offset, DiskImage::kBlockBytes - within);
    part(offset / DiskImage::kBlockBytes, within, length);
    offset += length;
  }
}

absl::Status FileError(absl::string_view what, const std::string& path) {
  const int error = errno;
  return ErrnoStatus(error, absl::StrCat(what, " '", path, "'"));
}

absl::Status ReadExtent(int fd, const std::string& path, uint64_t begin, uint64_t end,
                        DiskImage& image) {
  std::vector<std::byte> bytes(kTransferBytes);
  for (uint64_t offset = begin; offset < end;) {
    const ssize_t got =
        pread(fd, bytes.data(), std::min(bytes.size(), end - offset), static_cast<off_t>(offset));
    if (got < 0) return FileError("read of", path);
    if (got == 0) break;
    const std::span<const std::byte> part(bytes.data(), static_cast<size_t>(got));
    if (!AreZeroes(part)) image.Write(offset, part);
    offset += part.size();
  }
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, const std::string& path, uint64_t offset,
                      std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0) return FileError("write of", path);
    bytes = bytes.subspan(static_cast<size_t>(done));
    offset += static_cast<uint64_t>(done);
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t DiskImage::Block::Hash() const {
  uint64_t known = hash.load(std::memory_order_relaxed);
  if (known != 0) return known;
  uint64_t state = 0;
  for (size_t i = 0; i < bytes.size(); i += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, &bytes[i], sizeof(word));
    state = (state ^ word) * 0x9e3779b97f4a7c15;
    state ^= state >> 29;
  }
  known = AreZeroes(bytes) ? kHashOfZeroes : std::max(Mix(state), kHashOfZeroes + 1);
  hash.store(known, std::memory_order_relaxed);
  return known;
}

absl::StatusOr<DiskImage> DiskImage::LoadFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("open of", path);
  absl::Cleanup close_fd = [fd] { close(fd); };
  const off_t size = lseek(fd, 0, SEEK_END);
  if (size < 0) return FileError("size of", path);

  DiskImage image;
  image.Resize(static_cast<uint64_t>(size));
  for (off_t end = 0; end < size;) {
    const off_t begin = lseek(fd, end, SEEK_DATA);
    if (begin < 0 && errno == ENXIO) break;  // nothing but a hole up to the end
    if (begin < 0) return FileError("search for data in", path);
    end = lseek(fd, begin, SEEK_HOLE);
    if (end < 0) return FileError("search for a hole in", path);
    RETURN_IF_ERROR(
        ReadExtent(fd, path, static_cast<uint64_t>(begin), static_cast<uint64_t>(end), image));
  }
  return image;
}

absl::Status DiskImage::SaveFile(const std::string& path) const {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FileError("creation of", path);
  absl::Cleanup close_fd = [fd] { close(fd); };
  if (ftruncate(fd, static_cast<off_t>(size_)) != 0) return FileError("truncation of", path);
  absl::Status status;
  ForEachBlock([&](uint64_t number, const Block& block) {
    const uint64_t offset = number * kBlockBytes;
    const std::span<const std::byte> bytes(block.bytes);
    status.Update(WriteAll(fd, path, offset, bytes.first(std::min(kBlockBytes, size_ - offset))));
  });
  return status;
}

void DiskImage::Resize(uint64_t size) {
  if (size < size_) Zero(size, size_ - size);
  size_ = size;
}

void DiskImage::Read(uint64_t offset, std::span<std::byte> into) const {
  ForEachPart(offset, offset + into.size(), [&](uint64_t number, uint64_t within, uint64_t length) {
    std::byte* to = into.data() + (number * kBlockBytes + within - offset);
    if (const Block* block = Find(number); block != nullptr) {
      std::memcpy(to, &block->bytes[within], length);
    } else {
      std::memset(to, 0, length);
    }
  });
}

void DiskImage::Write(uint64_t offset, std::span<const std::byte> bytes) {
  const uint64_t end = offset + bytes.size();
  ForEachPart(offset, end, [&](uint64_t number, uint64_t within, uint64_t length) {
    const std::byte* from = bytes.data() + (number * kBlockBytes + within - offset);
    std::memcpy(&ForWriting(number).bytes[within], from, length);
  });
  if (!bytes.empty()) size_ = std::max(size_, end);
}

void DiskImage::Zero(uint64_t offset, uint64_t length) {
  if (offset >= size_) return;
  const uint64_t end = offset + std::min(length, size_ - offset);
  const auto zero_part = [&](uint64_t begin, uint64_t part_end) {
    ForEachPart(begin, part_end, [&](uint64_t number, uint64_t within, uint64_t bytes) {
      if (Find(number) != nullptr) std::memset(&ForWriting(number).bytes[within], 0, bytes);
    });
  };
  const uint64_t first_whole = (offset + kBlockBytes - 1) / kBlockBytes;
  // The block that holds the end of the disk holds nothing behind it.
  const uint64_t whole_end = end == size_ ? (end + kBlockBytes - 1) / kBlockBytes  //
                                          : end / kBlockBytes;
  if (first_whole >= whole_end) return zero_part(offset, end);
  zero_part(offset, first_whole * kBlockBytes);
  DropBlocks(first_whole, whole_end);
  if (end > whole_end * kBlockBytes) zero_part(whole_end * kBlockBytes, end);
}

size_t DiskImage::blocks() const {
  size_t count = 0;
  ForEachBlock([&](uint64_t, const Block&) { ++count; });
  return count;
}

uint64_t DiskImage::Fingerprint() const {
  uint64_t sum = Mix(size_ + 1);
  ForEachBlock([&](uint64_t number, const Block& block) {
    const uint64_t hash = block.Hash();
    // A block of zeroes is like no block.
    if (hash != kHashOfZeroes) sum += Mix(hash ^ Mix(number + 1));
  });
  return sum;
}

bool operator==(const DiskImage& a, const DiskImage& b) {
  if (a.size_ != b.size_) return false;
  const auto contains = [](const DiskImage& whole, const DiskImage& part) {
    bool same = true;
    part.ForEachBlock([&](uint64_t number, const DiskImage::Block& block) {
      const DiskImage::Block* other = whole.Find(number);
      if (other == &block || !same) return;
      same = other == nullptr ? AreZeroes(block.bytes) : block.bytes == other->bytes;
    });
    return same;
  };
  return contains(a, b) && contains(b, a);
}

std::shared_ptr<DiskImage::Leaf>* DiskImage::FindLeaf(uint64_t leaf) {
  const auto found = std::lower_bound(leaves_.begin(), leaves_.end(), leaf,
                                      [](const auto& a, uint64_t b) { return a.first < b; });
  return found == leaves_.end() || found->first != leaf ? nullptr : &found->second;
}

const DiskImage::Block* DiskImage::Find(uint64_t block) const {
  const auto* leaf = const_cast<DiskImage*>(this)->FindLeaf(block / kBlocksPerLeaf);
  return leaf == nullptr ? nullptr : (**leaf)[block % kBlocksPerLeaf].get();
}

DiskImage::Block& DiskImage::ForWriting(uint64_t block) {
  const uint64_t number = block / kBlocksPerLeaf;
  auto at = std::lower_bound(leaves_.begin(), leaves_.end(), number,
                             [](const auto& a, uint64_t b) { return a.first < b; });
  if (at == leaves_.end() || at->first != number) {
    at = leaves_.emplace(at, number, std::make_shared<Leaf>());
  } else if (at->second.use_count() > 1) {
    at->second = std::make_shared<Leaf>(*at->second);
  }
  std::shared_ptr<Block>& slot = (*at->second)[block % kBlocksPerLeaf];
  if (slot == nullptr) {
    slot = std::make_shared<Block>();
  } else if (slot.use_count() > 1) {
    slot = std::make_shared<Block>(*slot);
  }
  slot->hash.store(0, std::memory_order_relaxed);
  return *slot;
}

void DiskImage::DropBlocks(uint64_t begin, uint64_t end) {
  for (auto& [number, leaf] : leaves_) {
    const uint64_t first = number * kBlocksPerLeaf;
    if (first + kBlocksPerLeaf <= begin || end <= first) continue;
    if (leaf.use_count() > 1) leaf = std::make_shared<Leaf>(*leaf);
    const uint64_t to = std::min(end, first + kBlocksPerLeaf);
    for (uint64_t block = std::max(begin, first); block < to; ++block) {
      (*leaf)[block - first].reset();
    }
  }
  std::erase_if(leaves_, [&](const auto& entry) {
    return begin <= entry.first * kBlocksPerLeaf && (entry.first + 1) * kBlocksPerLeaf <= end;
  });
}

template <typename Visit>
void DiskImage::ForEachBlock(Visit visit) const {
  for (const auto& [number, leaf] : leaves_) {
    for (size_t i = 0; i < kBlocksPerLeaf; ++i) {
      if (const Block* block = (*leaf)[i].get(); block != nullptr) {
        visit(number * kBlocksPerLeaf + i, *block);
      }
    }
  }
}

}  // namespace ringcow
