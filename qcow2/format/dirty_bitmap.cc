#include "qcow2/format/dirty_bitmap.h"

#include <algorithm>
#include <bit>

#include "engine/invariant.h"
#include "qcow2/format/bitmap_directory.h"

namespace ringcow {
namespace {

constexpr uint64_t kWordBits = 64;

// Bits `begin` to `end` of a word: 0 <= begin < end <= 64.
uint64_t Mask(uint64_t begin, uint64_t end) {
  return (~uint64_t{0} >> (kWordBits - (end - begin))) << begin;
}

}  // namespace

DirtyBitmap::DirtyBitmap(const Geometry& geometry, uint8_t granularity_bits)
    : cluster_bytes_(geometry.cluster_bytes()),
      granularity_bits_(granularity_bits),
      virtual_size_(0) {
  RINGCOW_INVARIANT(granularity_bits >= kMinBitmapGranularityBits &&
                        granularity_bits <= kMaxBitmapGranularityBits,
                    "not the granularity of a bitmap");
  Resize(geometry.virtual_size());
}

uint64_t DirtyBitmap::BitsIn(uint64_t cluster) const {
  return std::min(bits_per_cluster(), bits_ - cluster * bits_per_cluster());
}

void DirtyBitmap::Resize(uint64_t virtual_size) {
  const uint64_t bits = DivideRoundUp(virtual_size, granularity());
  // Behind the end there must be no ones when it grows again.
  if (bits < bits_) ChangeBits(bits, bits_, false);
  // All ones without words means ones for as many bits as there were: now there are more.
  if (bits > bits_ && !clusters_.empty() && clusters_.back().set_bits != 0) {
    Expand(clusters_.back());
  }
  virtual_size_ = virtual_size;
  bits_ = bits;
  clusters_.resize(DivideRoundUp(bits, bits_per_cluster()));
}

void DirtyBitmap::Expand(Cluster& cluster) const {
  if (!cluster.words.empty()) return;
  cluster.words.resize(bits_per_cluster() / kWordBits);
  uint64_t left = cluster.set_bits;
  for (uint64_t& word : cluster.words) {
    if (left == 0) return;
    const uint64_t here = std::min(left, kWordBits);
    word = Mask(0, here);
    left -= here;
  }
}

void DirtyBitmap::ChangeBits(uint64_t begin, uint64_t end, bool value) {
  while (begin < end) {
    const uint64_t cluster = begin / bits_per_cluster();
    const uint64_t first = cluster * bits_per_cluster();
    const uint64_t end_here = std::min(end, first + BitsIn(cluster));
    if (end_here - begin == BitsIn(cluster)) {
      clusters_[cluster] = {value ? BitsIn(cluster) : 0, {}};
    } else {
      ChangeBitsIn(clusters_[cluster], begin - first, end_here - first, value);
    }
    begin = end_here;
  }
}

void DirtyBitmap::ChangeBitsIn(Cluster& cluster, uint64_t begin, uint64_t end, bool value) {
  Expand(cluster);
  for (uint64_t at = begin; at < end;) {
    const uint64_t in_word = at % kWordBits;
    const uint64_t count = std::min(kWordBits - in_word, end - at);
    uint64_t& word = cluster.words[at / kWordBits];
    const uint64_t mask = Mask(in_word, in_word + count);
    const uint64_t changed = value ? mask & ~word : mask & word;
    const auto changed_bits = static_cast<uint64_t>(std::popcount(changed));
    cluster.set_bits = value ? cluster.set_bits + changed_bits : cluster.set_bits - changed_bits;
    word ^= changed;
    at += count;
  }
}

void DirtyBitmap::Set(GuestOffset offset, uint64_t bytes) {
  if (bytes == 0 || offset.value() >= virtual_size_) return;
  const uint64_t end = offset.value() + std::min(bytes, virtual_size_ - offset.value());
  ChangeBits(offset.value() >> granularity_bits_, DivideRoundUp(end, granularity()), true);
}

void DirtyBitmap::Clear(GuestOffset offset, uint64_t bytes) {
  if (offset.value() >= virtual_size_) return;
  const uint64_t end = offset.value() + std::min(bytes, virtual_size_ - offset.value());
  // The last bit has no bytes behind the end of the disk.
  const uint64_t end_bit = end == virtual_size_ ? bits_ : end >> granularity_bits_;
  ChangeBits(DivideRoundUp(offset.value(), granularity()), end_bit, false);
}

void DirtyBitmap::ClearAll() { ChangeBits(0, bits_, false); }

void DirtyBitmap::Merge(const DirtyBitmap& from) {
  for (auto range = from.NextDirty(GuestOffset(0)); range.has_value();
       range = from.NextDirty(range->offset + range->bytes)) {
    Set(range->offset, range->bytes);
  }
}

bool DirtyBitmap::GetBit(uint64_t bit) const {
  const Cluster& cluster = clusters_[bit / bits_per_cluster()];
  if (cluster.words.empty()) return cluster.set_bits != 0;
  const uint64_t in_cluster = bit % bits_per_cluster();
  return (cluster.words[in_cluster / kWordBits] >> in_cluster % kWordBits & 1) != 0;
}

bool DirtyBitmap::Get(GuestOffset offset) const {
  return offset.value() < virtual_size_ && GetBit(offset.value() >> granularity_bits_);
}

uint64_t DirtyBitmap::FindBit(uint64_t begin, bool value) const {
  for (uint64_t at = begin; at < bits_;) {
    const uint64_t index = at / bits_per_cluster();
    const Cluster& cluster = clusters_[index];
    const uint64_t end = index * bits_per_cluster() + BitsIn(index);
    const uint64_t other = value ? 0 : BitsIn(index);
    if (cluster.set_bits == other) {
      at = end;
      continue;
    }
    if (cluster.words.empty()) return at;
    const uint64_t in_cluster = at % bits_per_cluster();
    const uint64_t word = cluster.words[in_cluster / kWordBits];
    const uint64_t wanted = (value ? word : ~word) >> in_cluster % kWordBits;
    if (wanted != 0) return std::min(at + std::countr_zero(wanted), bits_);
    at += kWordBits - in_cluster % kWordBits;
  }
  return bits_;
}

std::optional<DirtyBitmap::Range> DirtyBitmap::NextDirty(GuestOffset offset) const {
  if (offset.value() >= virtual_size_) return std::nullopt;
  const uint64_t first = FindBit(offset.value() >> granularity_bits_, true);
  if (first == bits_) return std::nullopt;
  const uint64_t end = FindBit(first, false);
  const uint64_t begin = std::max(offset.value(), first << granularity_bits_);
  const uint64_t end_bytes = end == bits_ ? virtual_size_ : end << granularity_bits_;
  return Range{GuestOffset(begin), end_bytes - begin};
}

uint64_t DirtyBitmap::set_bits() const {
  uint64_t sum = 0;
  for (const Cluster& cluster : clusters_) sum += cluster.set_bits;
  return sum;
}

bool DirtyBitmap::IsAllOnes(uint64_t cluster) const {
  return clusters_[cluster].set_bits == BitsIn(cluster);
}

void DirtyBitmap::StoreCluster(uint64_t cluster, std::span<std::byte> into) const {
  RINGCOW_INVARIANT(into.size() == cluster_bytes_, "not a cluster of a bitmap");
  Cluster copy = clusters_[cluster];
  Expand(copy);
  for (size_t i = 0; i < into.size(); ++i) {
    into[i] = static_cast<std::byte>(copy.words[i / 8] >> i % 8 * 8 & 0xff);
  }
}

void DirtyBitmap::LoadCluster(uint64_t cluster, std::span<const std::byte> from) {
  RINGCOW_INVARIANT(from.size() == cluster_bytes_, "not a cluster of a bitmap");
  Cluster& target = clusters_[cluster];
  target.words.assign(bits_per_cluster() / kWordBits, 0);
  for (size_t i = 0; i < from.size(); ++i) {
    target.words[i / 8] |= static_cast<uint64_t>(from[i]) << i % 8 * 8;
  }
  target.set_bits = 0;
  for (const uint64_t word : target.words) {
    target.set_bits += static_cast<uint64_t>(std::popcount(word));
  }
  if (BitsIn(cluster) < bits_per_cluster()) {
    ChangeBitsIn(target, BitsIn(cluster), bits_per_cluster(), false);
  }
  if (IsAllZeroes(cluster) || IsAllOnes(cluster)) target.words = {};
}

void DirtyBitmap::FillCluster(uint64_t cluster) { clusters_[cluster] = {BitsIn(cluster), {}}; }

}  // namespace ringcow
