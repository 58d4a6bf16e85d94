#include "qcow2/reclaim.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/refcount_table_entry.h"
#include "qcow2/format/reserve_record.h"
#include "qcow2/l2_slot.h"

namespace ringcow {
namespace {

// L2 tables that are read at most: to open an image must not take minutes, whatever its L1 table
// says. They map 4 TiB with clusters of 64 KiB.
constexpr uint64_t kMostTableBytes = uint64_t{512} << 20;

absl::Status TooMany() {
  return absl::InvalidArgumentError("too many L2 tables may refer to what was reserved");
}

// The recorded clusters to which nothing refers.
class Unreferenced {
 public:
  Unreferenced(Metadata& metadata, const ReserveRecord& record);

  // InvalidArgument, without an errno, for an entry that contradicts the format.
  Task<absl::Status> Search();
  std::vector<ClusterIndex> Clusters() const;

 private:
  struct Run {
    ClusterRun clusters;
    std::vector<bool> is_referred_to;
  };

  void Mark(ClusterRun referred_to);
  void MarkBytes(HostOffset begin, HostOffset end);
  void MarkTables();
  absl::StatusOr<std::optional<HostOffset>> L2TableOf(uint64_t l1_index) const;
  Task<absl::Status> MarkEntriesOf(HostOffset l2_table);

  Metadata& metadata_;
  const ReserveRecord& record_;
  std::vector<Run> runs_;  // sorted, disjoint
};

Unreferenced::Unreferenced(Metadata& metadata, const ReserveRecord& record)
    : metadata_(metadata), record_(record) {
  for (const ClusterRun& run : record.runs) {
    runs_.push_back({run, std::vector<bool>(run.count)});
  }
}

void Unreferenced::Mark(ClusterRun referred_to) {
  auto run = std::ranges::partition_point(
      runs_, [&](const Run& run) { return run.clusters.end() <= referred_to.first; });
  for (; run != runs_.end() && run->clusters.first < referred_to.end(); ++run) {
    const ClusterIndex first = std::max(run->clusters.first, referred_to.first);
    const ClusterIndex end = std::min(run->clusters.end(), referred_to.end());
    for (ClusterIndex cluster = first; cluster < end; ++cluster) {
      run->is_referred_to[cluster - run->clusters.first] = true;
    }
  }
}

void Unreferenced::MarkBytes(HostOffset begin, HostOffset end) {
  const Geometry& geometry = metadata_.geometry;
  Mark({geometry.ClusterOf(begin), geometry.ClustersFor(end - begin)});
}

void Unreferenced::MarkTables() {
  const ResidentTable& refcount_table = metadata_.refcount_table;
  MarkBytes(HostOffset(0), HostOffset(metadata_.geometry.cluster_bytes()));
  MarkBytes(metadata_.l1.offset(), metadata_.l1.end());
  MarkBytes(refcount_table.offset(), refcount_table.end());
  for (uint64_t i = 0; i < refcount_table.entries(); ++i) {
    const auto block = RefcountTableEntry::FromRaw(refcount_table.Get(i)).block();
    if (block.has_value()) Mark({metadata_.geometry.ClusterOf(*block), 1});
  }
}

absl::StatusOr<std::optional<HostOffset>> Unreferenced::L2TableOf(uint64_t l1_index) const {
  const L1Entry entry = L1Entry::FromRaw(metadata_.l1.Get(l1_index));
  RETURN_IF_ERROR(entry.Validate(metadata_.geometry, l1_index));
  const std::optional<HostOffset> table = entry.l2_table();
  if (table.has_value()) {
    RETURN_IF_ERROR(metadata_.CheckPlace(*table, metadata_.geometry.cluster_bytes(), "L2 table"));
  }
  return table;
}

Task<absl::Status> Unreferenced::Search() {
  MarkTables();
  // In a damaged image many entries may name one table: none is read twice.
  absl::flat_hash_set<HostOffset> in_range;
  for (uint64_t i = 0; i < metadata_.l1.entries(); ++i) {
    CO_ASSIGN_OR_RETURN(const std::optional<HostOffset> table, L2TableOf(i));
    if (!table.has_value()) continue;
    Mark({metadata_.geometry.ClusterOf(*table), 1});
    // With a data file, what L2 entries refer to is in that.
    if (metadata_.has_data_file() || i < record_.l1_begin || i >= record_.l1_end) continue;
    if (!in_range.insert(*table).second) continue;
    if (in_range.size() > kMostTableBytes / metadata_.geometry.cluster_bytes()) co_return TooMany();
    CO_RETURN_IF_ERROR(co_await MarkEntriesOf(*table));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Unreferenced::MarkEntriesOf(HostOffset l2_table) {
  const Geometry& geometry = metadata_.geometry;
  const uint64_t slice_bytes = metadata_.l2_cache.table_bytes();
  for (uint64_t at = 0; at < geometry.cluster_bytes(); at += slice_bytes) {
    CO_ASSIGN_OR_RETURN(const TablePin slice, co_await metadata_.l2_cache.Get(l2_table + at));
    for (uint64_t i = 0; i < slice_bytes / geometry.l2_entry_bytes(); ++i) {
      CO_ASSIGN_OR_RETURN(const ExtendedL2Entry slot, ValidL2Slot(metadata_, slice, i));
      Mark(ClustersOf(geometry, slot.entry()));
    }
  }
  co_return absl::OkStatus();
}

std::vector<ClusterIndex> Unreferenced::Clusters() const {
  std::vector<ClusterIndex> clusters;
  for (const Run& run : runs_) {
    for (uint64_t i = 0; i < run.clusters.count; ++i) {
      if (!run.is_referred_to[i]) clusters.push_back(run.clusters.first + i);
    }
  }
  return clusters;
}

}  // namespace

Task<absl::Status> ReclaimReserve(Metadata& metadata, Refcounts& refcounts) {
  // Where it cannot be read there is none: nobody else needs that sector.
  const auto found = co_await metadata.recorded_reserve.Find();
  const std::optional<ReserveRecord> record = found.value_or(std::nullopt);
  if (!record.has_value() || !refcounts.CheckBlocksDiffer().ok()) co_return absl::OkStatus();
  Unreferenced unreferenced(metadata, *record);
  if (const absl::Status searched = co_await unreferenced.Search(); !searched.ok()) {
    co_return HasErrno(searched) ? searched : absl::OkStatus();
  }
  for (const ClusterIndex cluster : unreferenced.Clusters()) {
    absl::StatusOr<uint64_t> refcount = co_await refcounts.Get(cluster);
    if (refcount.ok() && *refcount != 1) continue;
    absl::Status status = refcount.status();
    if (status.ok()) status = co_await refcounts.Set({cluster, 1}, 0);
    if (!status.ok()) co_return HasErrno(status) ? status : absl::OkStatus();
  }
  // As long as there is the record, it can be done once more.
  CO_RETURN_IF_ERROR(co_await metadata.write_back.Flush());
  metadata.recorded_reserve.End();
  co_return co_await metadata.write_back.Flush();
}

}  // namespace ringcow
