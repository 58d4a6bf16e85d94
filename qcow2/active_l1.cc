#include "qcow2/active_l1.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "engine/status_macros.h"
#include "qcow2/format/limits.h"

namespace ringcow {
namespace {

// A table of `entries` and of nothing up to `count`, durable.
Task<absl::StatusOr<ResidentTable>> MakeTable(Metadata& metadata, HostOffset place,
                                              std::vector<L1Entry> entries, uint64_t count) {
  CO_ASSIGN_OR_RETURN(ResidentTable table,
                      co_await ResidentTable::MakeEmpty(metadata.l1_cache, place, count));
  for (uint64_t i = 0; i < entries.size(); ++i) {
    if (entries[i] != L1Entry::Unallocated()) table.Set(i, entries[i].raw());
  }
  CO_RETURN_IF_ERROR(co_await metadata.write_back.Flush());
  co_return std::move(table);
}

}  // namespace

std::vector<L1Entry> ActiveL1(const Metadata& metadata) {
  std::vector<L1Entry> l1;
  l1.reserve(metadata.l1.entries());
  for (uint64_t i = 0; i < metadata.l1.entries(); ++i) {
    l1.push_back(L1Entry::FromRaw(metadata.l1.Get(i)));
  }
  return l1;
}

Task<absl::Status> ReplaceActiveL1(Metadata& metadata, Allocator& allocator,
                                   std::vector<L1Entry> entries, Geometry geometry) {
  const uint64_t count = std::max<uint64_t>(entries.size(), geometry.l1_entries());
  const uint64_t clusters = std::max<uint64_t>(geometry.ClustersFor(count * kTableEntryBytes), 1);
  metadata.Announce(DebugEvent::kL1GrowAllocTable);
  CO_ASSIGN_OR_RETURN(const AllocatedRun run, co_await allocator.Allocate(clusters));
  const HostOffset place = geometry.OffsetOf(run.first);
  metadata.Announce(DebugEvent::kL1GrowWriteTable);
  absl::StatusOr<ResidentTable> table =
      co_await MakeTable(metadata, place, std::move(entries), count);
  if (!table.ok()) {
    // Left in the cache, the table would be written later over whatever uses its clusters by then.
    absl::Status status = table.status();
    co_await metadata.l1_cache.Drop(place, clusters * geometry.cluster_bytes());
    status.Update(co_await allocator.Free(run));
    co_return status;
  }

  ResidentTable old = std::exchange(metadata.l1, *std::move(table));
  const ClusterRun freed{geometry.ClusterOf(old.offset()),
                         geometry.ClustersFor(metadata.header.l1_table_bytes())};
  old = ResidentTable();
  metadata.header.l1_table_offset = place;
  metadata.header.l1_entries = static_cast<uint32_t>(count);
  metadata.header.virtual_size = geometry.virtual_size();
  metadata.geometry = geometry;
  metadata.StoreHeader();
  metadata.Announce(DebugEvent::kL1GrowActivateTable);
  CO_RETURN_IF_ERROR(co_await metadata.write_back.Flush());
  if (freed.count == 0) co_return absl::OkStatus();
  co_await metadata.l1_cache.Drop(geometry.OffsetOf(freed.first),
                                  freed.count * geometry.cluster_bytes());
  co_return co_await allocator.RemoveReference(freed, /*is_l2_table=*/false);
}

}  // namespace ringcow
