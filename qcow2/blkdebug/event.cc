#include "qcow2/blkdebug/event.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_format.h"

namespace ringcow {
namespace {

struct NamedEvent {
  absl::string_view name;
  DebugEvent event = DebugEvent::kNone;
};

constexpr NamedEvent kEvents[] = {
    {"none", DebugEvent::kNone},
    {"read_aio", DebugEvent::kReadAio},
    {"write_aio", DebugEvent::kWriteAio},
    {"l1_update", DebugEvent::kL1Update},
    {"l2_load", DebugEvent::kL2Load},
    {"l2_update", DebugEvent::kL2Update},
    {"reftable_load", DebugEvent::kReftableLoad},
    {"reftable_update", DebugEvent::kReftableUpdate},
    {"refblock_load", DebugEvent::kRefblockLoad},
    {"refblock_update_part", DebugEvent::kRefblockUpdatePart},
    {"flush_to_disk", DebugEvent::kFlushToDisk},
    {"pwritev", DebugEvent::kPwritev},
    {"pwritev_zero", DebugEvent::kPwritevZero},
    {"pwritev_done", DebugEvent::kPwritevDone},
    {"cow_read", DebugEvent::kCowRead},
    {"cor_write", DebugEvent::kCorWrite},
    {"cluster_alloc", DebugEvent::kClusterAlloc},
    {"cluster_alloc_bytes", DebugEvent::kClusterAllocBytes},
    {"cluster_free", DebugEvent::kClusterFree},
    {"l1_grow_alloc_table", DebugEvent::kL1GrowAllocTable},
    {"l1_grow_write_table", DebugEvent::kL1GrowWriteTable},
    {"l1_grow_activate_table", DebugEvent::kL1GrowActivateTable},
    {"l2_alloc_write", DebugEvent::kL2AllocWrite},
    {"reftable_grow", DebugEvent::kReftableGrow},
    {"refblock_alloc", DebugEvent::kRefblockAlloc},
    {"refblock_alloc_hookup", DebugEvent::kRefblockAllocHookup},
    {"refblock_alloc_write", DebugEvent::kRefblockAllocWrite},
    {"refblock_alloc_write_blocks", DebugEvent::kRefblockAllocWriteBlocks},
    {"refblock_alloc_write_table", DebugEvent::kRefblockAllocWriteTable},
    {"refblock_alloc_switch_table", DebugEvent::kRefblockAllocSwitchTable},
    {"empty_image_prepare", DebugEvent::kEmptyImagePrepare},
};

// QEMU's others.
constexpr absl::string_view kElsewhere[] = {
    "l2_update_compressed",  "l2_alloc_cow_read",
    "read_backing_aio",      "read_compressed",
    "write_compressed",      "vmstate_load",
    "vmstate_save",          "cow_write",
    "refblock_update",       "flush_to_os",
    "pwritev_rmw_head",      "pwritev_rmw_after_head",
    "pwritev_rmw_tail",      "pwritev_rmw_after_tail",
    "l1_shrink_write_table", "l1_shrink_free_l2_clusters",
    "cluster_alloc_space",
};

}  // namespace

absl::StatusOr<DebugEvent> ParseDebugEvent(absl::string_view name) {
  for (const NamedEvent& known : kEvents) {
    if (known.name == name) return known.event;
  }
  if (std::find(std::begin(kElsewhere), std::end(kElsewhere), name) != std::end(kElsewhere)) {
    return absl::UnimplementedError(
        absl::StrFormat("The event '%s' does not come about in ringcow", name));
  }
  return absl::InvalidArgumentError(absl::StrFormat("invalid parameter value: %s", name));
}

bool IsAnnounced(DebugEvent event) {
  return event == DebugEvent::kNone || event >= DebugEvent::kClusterAlloc;
}

}  // namespace ringcow
