#ifndef RINGCOW_QCOW2_CHECK_REFCOUNTS_H_
#define RINGCOW_QCOW2_CHECK_REFCOUNTS_H_

#include <cstdint>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/aligned_buffer.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/check_references.h"
#include "qcow2/check_table_batch.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/refcount_table_entry.h"
#include "qcow2/format/units.h"

namespace ringcow {

// What a comparison of refcounts does about those that are wrong.
struct Comparison {
  bool fixes_leaks = false;        // says that they are repaired, as WriteRefcounts will
  bool fixes_corruptions = false;  // the same
  bool keeps_references = false;   // another comparison follows
};

// The refcounts that an image stores, and their comparison with the references there are.
class StoredRefcounts {
 public:
  // `disk` must outlive it.
  StoredRefcounts(Disk& disk, const Header& header, const Geometry& geometry);

  // Reads the refcount table, as far as the file has it. Before everything else.
  Task<absl::Status> LoadTable();

  // Checks the entries of the refcount table, and counts a reference to each refcount block.
  void CountBlocks(ReferenceCounter& counter);

  // Reports each cluster of the file whose refcount is not the number of references counted. What
  // counter.counts() has for a cluster with references is from then on its refcount (unless that is
  // fixed, or references are kept).
  Task<void> Compare(ReferenceCounter& counter, Comparison how = {});

  // Whether the structures themselves are wrong, or have no refcount where there are references:
  // then QEMU makes new ones.
  bool needs_rebuild() const { return needs_rebuild_; }
  // A block is named that the file does not have, where all refcounts read as 0.
  bool has_block_outside() const { return has_block_outside_; }
  // The readable block of entry `index`; nothing when there is none.
  std::optional<HostOffset> ReadableBlockAt(uint64_t index) const;

  // The refcount of any cluster, read from disk. Nothing where it cannot be read.
  Task<std::optional<uint64_t>> Read(ClusterIndex cluster);
  // Whether Compare could not read the refcount of the cluster.
  bool IsUnreadable(ClusterIndex cluster) const {
    return unreadable_blocks_.contains(geometry_.RefcountTableIndex(cluster));
  }

 private:
  // The refcounts of the clusters [begin, end), which have an entry of the refcount table in
  // common.
  struct BlockRange {
    ClusterIndex begin;
    ClusterIndex end;
  };

  uint64_t entries() const { return table_.size() / kTableEntryBytes; }
  RefcountTableEntry Entry(uint64_t index) const;
  // The block that has entry `index`; nothing when there is none, and all refcounts are 0.
  std::optional<HostOffset> BlockAt(uint64_t index) const;
  bool IsReadable(HostOffset block) const;

  // Puts the readable blocks of the entries [begin, end) into the batch, and returns the first
  // entry that has to wait for the next one.
  uint64_t FillBatch(uint64_t begin, uint64_t end);
  void CompareBlock(ReferenceCounter& counter, BlockRange range, std::span<const std::byte> block);
  void CompareWithNone(ReferenceCounter& counter, BlockRange range);
  void ReportUnreadable(Findings& findings, uint64_t index, BlockRange range, int error);
  void CompareCluster(ReferenceCounter& counter, ClusterIndex cluster, uint64_t refcount,
                      uint64_t references);

  Disk& disk_;
  const Geometry geometry_;
  const HostOffset table_offset_;
  AlignedBuffer table_;
  TableBatch batch_;
  absl::flat_hash_set<uint64_t> unreadable_blocks_;  // by index of the refcount table
  bool reported_unaligned_ = false;
  bool needs_rebuild_ = false;
  bool has_block_outside_ = false;
  Comparison how_;
  uint64_t highest_cluster_ = 0;  // with a refcount or a reference
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_REFCOUNTS_H_
