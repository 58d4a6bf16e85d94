#include "qcow2/reference_counts.h"

#include <algorithm>

#include "engine/invariant.h"

namespace ringcow {

ReferenceCounts::Chunk* ReferenceCounts::Find(uint64_t index) const {
  if (index != last_index_) {
    const auto found = chunks_.find(index);
    last_index_ = index;
    last_ = found == chunks_.end() ? nullptr : found->second.get();
  }
  return last_;
}

ReferenceCounts::Chunk& ReferenceCounts::FindOrMake(uint64_t index) {
  if (Chunk* chunk = Find(index)) return *chunk;
  last_ = chunks_.emplace(index, std::make_unique<Chunk>()).first->second.get();
  return *last_;
}

uint64_t ReferenceCounts::Load(const Chunk& chunk, ClusterIndex cluster) const {
  const uint8_t small = chunk[cluster.value() % kChunkClusters];
  return small < kLarge ? small : large_.at(cluster.value());
}

void ReferenceCounts::Store(Chunk& chunk, ClusterIndex cluster, uint64_t count) {
  uint8_t& small = chunk[cluster.value() % kChunkClusters];
  if (count >= kLarge) {
    large_[cluster.value()] = count;
  } else if (small == kLarge) {
    large_.erase(cluster.value());
  }
  small = static_cast<uint8_t>(std::min<uint64_t>(count, kLarge));
}

uint64_t ReferenceCounts::Add(ClusterIndex cluster, uint64_t references) {
  if (references == 0) return 0;
  Chunk& chunk = FindOrMake(cluster.value() / kChunkClusters);
  const uint64_t count = Load(chunk, cluster);
  const uint64_t added = std::min(references, max_ - count);
  Store(chunk, cluster, count + added);
  return references - added;
}

uint64_t ReferenceCounts::Get(ClusterIndex cluster) const {
  const Chunk* chunk = Find(cluster.value() / kChunkClusters);
  return chunk == nullptr ? 0 : Load(*chunk, cluster);
}

void ReferenceCounts::Set(ClusterIndex cluster, uint64_t count) {
  Chunk* chunk = Find(cluster.value() / kChunkClusters);
  RINGCOW_INVARIANT(chunk != nullptr && Load(*chunk, cluster) != 0, "the cluster was not counted");
  Store(*chunk, cluster, count);
}

std::optional<ClusterIndex> ReferenceCounts::NextCounted(ClusterIndex from) const {
  uint64_t within = from.value() % kChunkClusters;
  for (auto at = chunks_.lower_bound(from.value() / kChunkClusters); at != chunks_.end(); ++at) {
    if (at->first != from.value() / kChunkClusters) within = 0;
    for (; within < kChunkClusters; ++within) {
      if ((*at->second)[within] != 0) return ClusterIndex(at->first * kChunkClusters + within);
    }
  }
  return std::nullopt;
}

}  // namespace ringcow
