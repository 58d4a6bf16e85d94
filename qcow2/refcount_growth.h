#ifndef RINGCOW_QCOW2_REFCOUNT_GROWTH_H_
#define RINGCOW_QCOW2_REFCOUNT_GROWTH_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/task.h"
#include "qcow2/format/units.h"
#include "qcow2/free_space.h"
#include "qcow2/metadata.h"
#include "qcow2/refcounts.h"

namespace ringcow {

// Makes the refcount structures grow with the file: new refcount blocks, and a larger refcount
// table when the old one is full. Both are laid out as QEMU lays them out.
//
// Order: a block is durable before the refcount table's entry that points to it; a new table and
// all it points to are durable before the header that points to it. Whoever uses a refcount in
// them is ordered behind all of that by Refcounts::OrderBefore.
class RefcountGrowth {
 public:
  RefcountGrowth(Metadata& metadata, Refcounts& refcounts, FreeSpace& free_space)
      : metadata_(metadata), refcounts_(refcounts), free_space_(free_space) {}

  // Allocates the refcount block of refcount table entry `table_index`, which has none. The search
  // for free clusters must be begun again afterwards: the block took one. EFBIG when the refcount
  // table would exceed its limit.
  Task<absl::Status> AddBlock(uint64_t table_index);

  // Replaces the refcount table by one at `begin`, behind which nothing is used yet, that is just
  // large enough for everything up to there, for itself, for new refcount blocks (which lie before
  // it) and for `clusters` more. Says where these may begin. EFBIG as above.
  Task<absl::StatusOr<ClusterIndex>> MakeRoom(ClusterIndex begin, uint64_t clusters);

 private:
  // The clusters of new refcount blocks and, behind them, of a new refcount table.
  struct Area {
    ClusterRun clusters;
    uint64_t first_block = 0;  // refcount table index of the first of its blocks
    uint64_t blocks = 0;
    uint64_t table_entries = 0;
  };

  // A fresh block's tables in the cache, all refcounts 0.
  Task<absl::Status> InitializeBlock(HostOffset block, bool is_zero);
  Task<absl::Status> CountIn(HostOffset block, ClusterRun clusters);
  // `referrer` will point to `block`, whose tables must be durable first.
  Task<absl::Status> OrderBehindBlock(Table& referrer, HostOffset block);
  Task<absl::Status> PutIntoTable(uint64_t table_index, HostOffset block, ClusterRun run);
  bool IsInTable(uint64_t table_index, HostOffset block) const;

  Task<absl::Status> GrowTable(uint64_t table_index, HostOffset block);
  // `entry`: one more of the new table.
  struct TableEntry {
    uint64_t index = 0;
    HostOffset block;
  };
  Task<absl::Status> MoveTable(Area area, std::optional<TableEntry> entry);
  // kToGrow: half as large again as needed, so that growing stays rare.
  enum class Room { kExact, kToGrow };
  // Refcount blocks for so many clusters, for themselves and for the table that names them.
  uint64_t BlocksFor(uint64_t clusters, Room room) const;
  absl::StatusOr<Area> PlaceArea(ClusterIndex begin, uint64_t clusters, Room room) const;
  HostOffset OffsetOfBlock(const Area& area, uint64_t i) const;
  Task<absl::StatusOr<ResidentTable>> MakeTable(const Area& area);
  Task<absl::Status> FillBlocks(const Area& area, bool is_zero);
  // The part of the area that blocks describe which are older than it; often none.
  ClusterRun DescribedByOthers(const Area& area) const;
  // The table, which is durable with all that it names, is in use afterwards, whatever fails.
  Task<absl::Status> SwitchTo(ResidentTable table, const Area& area);

  Metadata& metadata_;
  Refcounts& refcounts_;
  FreeSpace& free_space_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REFCOUNT_GROWTH_H_
