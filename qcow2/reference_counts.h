#ifndef RINGCOW_QCOW2_REFERENCE_COUNTS_H_
#define RINGCOW_QCOW2_REFERENCE_COUNTS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "qcow2/format/units.h"

namespace ringcow {

// How often each host cluster of an image is referenced, counted by whoever walks its tables.
//
// Memory: a byte a cluster, in chunks of 256 that exist only where something is referenced; plus a
// map entry for each cluster with 255 references or more. So an image of holes costs nothing, and
// a table entry of a hostile one at most its chunk.
class ReferenceCounts {
 public:
  // Counts stop at `max`, the largest refcount that the image can store.
  explicit ReferenceCounts(uint64_t max) : max_(max) {}

  // Returns how many of the references went beyond the maximum and are not counted.
  uint64_t Add(ClusterIndex cluster, uint64_t references);

  uint64_t Get(ClusterIndex cluster) const;
  // Replaces the count of a cluster whose count is not zero.
  void Set(ClusterIndex cluster, uint64_t count);

  // The first cluster at or behind `from` with a count above zero.
  std::optional<ClusterIndex> NextCounted(ClusterIndex from) const;

 private:
  static constexpr uint64_t kChunkClusters = 256;
  static constexpr uint8_t kLarge = 255;  // the count is in large_

  using Chunk = std::array<uint8_t, kChunkClusters>;

  Chunk* Find(uint64_t index) const;
  Chunk& FindOrMake(uint64_t index);
  uint64_t Load(const Chunk& chunk, ClusterIndex cluster) const;
  void Store(Chunk& chunk, ClusterIndex cluster, uint64_t count);

  const uint64_t max_;
  absl::btree_map<uint64_t, std::unique_ptr<Chunk>> chunks_;
  absl::flat_hash_map<uint64_t, uint64_t> large_;

  // The chunk looked up last, for references come in runs; it may be missing.
  mutable uint64_t last_index_ = ~uint64_t{0};
  mutable Chunk* last_ = nullptr;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REFERENCE_COUNTS_H_
