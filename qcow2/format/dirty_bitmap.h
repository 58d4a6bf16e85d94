#ifndef RINGCOW_QCOW2_FORMAT_DIRTY_BITMAP_H_
#define RINGCOW_QCOW2_FORMAT_DIRTY_BITMAP_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "qcow2/format/geometry.h"
#include "qcow2/format/units.h"

namespace ringcow {

// A dirty bitmap in memory: a bit for each 2^granularity_bits bytes of the virtual disk. It is kept
// by clusters of the image, as it is stored; those whose bits are all the same cost no memory.
//
// As stored, bit n is bit n % 8 (from the least significant) of byte n / 8. Bits behind the end of
// the disk are zero.
//
// Guest ranges may reach beyond the end of the disk, which has no bits. Not thread-safe.
class DirtyBitmap {
 public:
  struct Range {
    GuestOffset offset;
    uint64_t bytes = 0;

    friend bool operator==(const Range&, const Range&) = default;
  };

  // All bits zero. The granularity is within the limits of bitmap_directory.h.
  DirtyBitmap(const Geometry& geometry, uint8_t granularity_bits);

  uint8_t granularity_bits() const { return granularity_bits_; }
  uint64_t granularity() const { return uint64_t{1} << granularity_bits_; }
  uint64_t bits() const { return bits_; }

  // Every bit that a byte of the range belongs to.
  void Set(GuestOffset offset, uint64_t bytes);
  // Every bit whose bytes are all in the range: what is dirty beside it stays dirty.
  void Clear(GuestOffset offset, uint64_t bytes);
  void ClearAll();
  // Sets what is set in `from`, of any granularity.
  void Merge(const DirtyBitmap& from);
  // For a disk that became larger or smaller. New bits are zero.
  void Resize(uint64_t virtual_size);

  bool Get(GuestOffset offset) const;
  // The first run of set bits at or behind `offset`, as bytes of the disk; from `offset` on where
  // that is inside of one.
  std::optional<Range> NextDirty(GuestOffset offset) const;
  uint64_t set_bits() const;

  // The bitmap table has an entry for each of these. A cluster that is neither must be stored.
  uint64_t clusters() const { return clusters_.size(); }
  bool IsAllZeroes(uint64_t cluster) const { return clusters_[cluster].set_bits == 0; }
  bool IsAllOnes(uint64_t cluster) const;
  // `into` and `from` have the size of a cluster. What is loaded may hold anything.
  void StoreCluster(uint64_t cluster, std::span<std::byte> into) const;
  void LoadCluster(uint64_t cluster, std::span<const std::byte> from);
  void FillCluster(uint64_t cluster);  // with ones

 private:
  // `words` is empty while all bits are the same, which `set_bits` then tells.
  struct Cluster {
    uint64_t set_bits = 0;
    std::vector<uint64_t> words;
  };

  uint64_t bits_per_cluster() const { return cluster_bytes_ * 8; }
  uint64_t BitsIn(uint64_t cluster) const;
  bool GetBit(uint64_t bit) const;
  // The first bit from `begin` on that is `value`; bits() when there is none.
  uint64_t FindBit(uint64_t begin, bool value) const;
  void ChangeBits(uint64_t begin, uint64_t end, bool value);
  void ChangeBitsIn(Cluster& cluster, uint64_t begin, uint64_t end, bool value);
  // Makes it have words.
  void Expand(Cluster& cluster) const;

  uint64_t cluster_bytes_;
  uint8_t granularity_bits_;
  uint64_t virtual_size_;
  uint64_t bits_ = 0;
  std::vector<Cluster> clusters_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_DIRTY_BITMAP_H_
