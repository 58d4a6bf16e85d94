#ifndef RINGCOW_QCOW2_REFCOUNT_SHRINK_H_
#define RINGCOW_QCOW2_REFCOUNT_SHRINK_H_

#include <cstdint>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/task.h"
#include "qcow2/free_space.h"
#include "qcow2/metadata.h"
#include "qcow2/refcounts.h"

namespace ringcow {

// Gives up refcount blocks that count nothing any more but perhaps themselves, as QEMU does when an
// image shrinks. The refcount table stays as long as it is.
//
// Order: the refcount table's entry is gone, durably, before the block's own cluster is free; and
// so before the block that counts this cluster is given up in its turn. A crash in between leaks.
class RefcountShrink {
 public:
  RefcountShrink(Metadata& metadata, Refcounts& refcounts, FreeSpace& free_space)
      : metadata_(metadata), refcounts_(refcounts), free_space_(free_space) {}

  // Before an image shrinks, which looks at every block: the damage that QEMU meets there. Entries
  // of blocks behind the end of the file, which count nothing and are counted by nothing, are
  // removed, durably.
  Task<absl::Status> CheckBlocks();

  // With nothing reserved, no allocation under way, and the refcounts in memory those that hold:
  // what they count as free is not referred to on the disk. What this changes last is written by
  // the next flush.
  Task<absl::Status> GiveUpEmptyBlocks();

 private:
  absl::Status CheckAligned() const;
  // InvalidArgument, with a Corruption, when nothing counts the cluster of `block`.
  absl::Status CheckCounted(HostOffset block) const;

  // Indices of the refcount table.
  using Blocks = std::set<uint64_t>;

  Blocks All() const;
  Task<absl::StatusOr<std::vector<uint64_t>>> EmptyOnes(const Blocks& blocks);
  Task<absl::StatusOr<bool>> IsEmpty(uint64_t index);
  ClusterIndex ClusterOfBlock(uint64_t index) const;
  // Says which blocks count one cluster less for that.
  Task<absl::StatusOr<Blocks>> GiveUp(std::vector<uint64_t> blocks);

  Metadata& metadata_;
  Refcounts& refcounts_;
  FreeSpace& free_space_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REFCOUNT_SHRINK_H_
