#ifndef RINGCOW_QCOW2_MAPPING_TREE_H_
#define RINGCOW_QCOW2_MAPPING_TREE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/extended_l2_entry.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/metadata.h"
#include "qcow2/pass_discard.h"

namespace ringcow {

// All that one L1 table refers to: L2 tables, and the clusters in them. A snapshot is one more
// reference to each.
//
// Everything is changed in memory, in the caches; when it becomes durable, and that no guest
// request is under way, is the caller's affair. Entries are validated as they are met:
// InvalidArgument names the one that is wrong.
class MappingTree {
 public:
  // Clusters that lose their last reference give their space back if `passes_discards`.
  MappingTree(Metadata& metadata, Allocator& allocator, bool passes_discards)
      : metadata_(metadata),
        allocator_(allocator),
        passes_discards_(passes_discards),
        pass_discard_(metadata, allocator) {}

  // One reference more to everything below `l1`. On an error none has one more. OutOfRange when a
  // refcount cannot become larger.
  Task<absl::Status> AddReferences(std::span<const L1Entry> l1);
  // One less; what has none left is free. The removal of `l1` is durable, and nobody allocates.
  Task<absl::Status> RemoveReferences(std::span<const L1Entry> l1);

  // COPIED in all L2 tables below `l1`: cleared; or set exactly where a refcount is one. (The L1
  // table's own flags are its owner's.)
  Task<absl::Status> ClearCopied(std::span<const L1Entry> l1);
  Task<absl::Status> RefreshCopied(std::span<const L1Entry> l1);

 private:
  enum class Step { kAdd, kRemove, kClearCopied, kRefreshCopied };
  struct Walk {
    Step step = Step::kAdd;
    uint64_t limit = ~uint64_t{0};  // references, at which it ends
    uint64_t references = 0;        // that it has come past
    std::vector<ClusterRun> freed = {};
    bool is_done() const { return references == limit; }
  };

  // Comes past all entries of each L2 table, and then past the table.
  Task<absl::Status> Go(std::span<const L1Entry> l1, Walk& walk);
  Task<absl::Status> GoThroughL2Table(HostOffset l2_table, Walk& walk);
  Task<absl::Status> PassEntry(const TablePin& slice, uint64_t slot, Walk& walk);
  Task<absl::Status> PassValidEntry(const TablePin& slice, uint64_t slot, ExtendedL2Entry entry,
                                    Walk& walk);
  // `why` the entry is wrong; where a reference was to be added with the errno that keeps the
  // cluster that it names from having a refcount, as QEMU's search for that ends: EFBIG where no
  // refcount table could reach it, EAGAIN where no refcount block is.
  Task<absl::Status> CannotPass(const TablePin& slice, uint64_t slot, Step step, absl::Status why);
  Task<absl::Status> PassClusters(ClusterRun run, bool is_l2_table, Walk& walk);
  Task<absl::Status> RemoveReference(ClusterIndex cluster, bool is_l2_table, Walk& walk);
  Task<absl::StatusOr<bool>> CopiedFor(HostOffset cluster, Step step);

  Metadata& metadata_;
  Allocator& allocator_;
  const bool passes_discards_;
  PassDiscard pass_discard_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_MAPPING_TREE_H_
