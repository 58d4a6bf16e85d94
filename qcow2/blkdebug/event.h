#ifndef RINGCOW_QCOW2_BLKDEBUG_EVENT_H_
#define RINGCOW_QCOW2_BLKDEBUG_EVENT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/task.h"

namespace ringcow {

// What blkdebug's rules and breakpoints can be tied to: the events of QEMU that come about here.
//
// Most of them are requests of a certain kind, and BlkdebugDisk tells them by looking at the
// request. What happens in memory only is announced by the image to its EventListener, and so is
// kCowRead, by the request that is about to read.
enum class DebugEvent : uint8_t {
  kNone,  // the layer has been opened
  // Requests.
  kReadAio,
  kWriteAio,
  kL1Update,
  kL2Load,
  kL2Update,
  kReftableLoad,
  kReftableUpdate,
  kRefblockUpdatePart,
  kFlushToDisk,
  kPwritev,
  kPwritevZero,
  kPwritevDone,
  kCowRead,   // what is around a guest's bytes in a new cluster is read from where it is
  kCorWrite,  // what was read from a backing file is written to its overlay
  // Announced, these and all that follow.
  kClusterAlloc,
  kClusterAllocBytes,
  kClusterFree,
  kL1GrowAllocTable,
  kL1GrowWriteTable,
  kL1GrowActivateTable,
  kL2AllocWrite,
  kRefblockLoad,  // a refcount is about to be raised, and its block may be in its cache already
  kReftableGrow,
  kRefblockAlloc,
  kRefblockAllocHookup,
  kRefblockAllocWrite,
  kRefblockAllocWriteBlocks,
  kRefblockAllocWriteTable,
  kRefblockAllocSwitchTable,
  kEmptyImagePrepare,
};

// InvalidArgument in QEMU's words for names of no event, Unimplemented for events that QEMU has and
// that do not come about here.
absl::StatusOr<DebugEvent> ParseDebugEvent(absl::string_view name);

// No request carries it, so that none can be stopped there.
bool IsAnnounced(DebugEvent event);

// Who is told what an image does in memory.
class EventListener {
 public:
  virtual ~EventListener() = default;
  virtual void Happened(DebugEvent event) = 0;
  // Whether anything depends on it that a request comes to `event`. Where nothing does it need not
  // come there: it may be one chain with what follows.
  virtual bool Watches(DebugEvent event) const = 0;
  // A request has come to `event`, and goes on when the task ends.
  virtual Task<void> Pass(DebugEvent event) = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BLKDEBUG_EVENT_H_
