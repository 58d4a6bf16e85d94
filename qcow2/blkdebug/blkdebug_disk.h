#ifndef RINGCOW_QCOW2_BLKDEBUG_BLKDEBUG_DISK_H_
#define RINGCOW_QCOW2_BLKDEBUG_BLKDEBUG_DISK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/chain.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/loop.h"
#include "engine/mutex.h"
#include "engine/request.h"
#include "engine/task.h"
#include "engine/wait_list.h"
#include "qcow2/blkdebug/breakpoints.h"
#include "qcow2/blkdebug/event.h"
#include "qcow2/blkdebug/options.h"
#include "qcow2/blkdebug/rules.h"

namespace ringcow {

// Another disk, whose requests fail, stop and are cut into pieces as QEMU's blkdebug has it.
//
// Rules and breakpoints see each request before it is carried out, by what its bytes are. Chains
// are carried out member by member, each when the one before it has succeeded. The space that is
// allocated and the size of the disk are not meddled with.
class BlkdebugDisk final : public Disk, public EventListener {
 public:
  // `below` must outlive the disk, and be used by nobody else. InvalidArgument in QEMU's words for
  // what the options say wrongly, or the host's error about their file.
  static absl::StatusOr<std::unique_ptr<BlkdebugDisk>> Open(Disk& below,
                                                            const BlkdebugOptions& options);

  void Happened(DebugEvent event) override { machine_.Happened(event); }
  Breakpoints& breakpoints() { return breakpoints_; }
  const BlkdebugOptions& options() const { return options_; }

  // 0, or the errno of a rule for such a request, which is then not to be made.
  Task<int> Fail(DebugIo io, HostOffset offset, uint64_t length);

  DiskExtent Find(HostOffset offset, uint64_t length) const override {
    return below_.Find(offset, length);
  }

 protected:
  void Start(Request& request) override;
  void StartChain(Chain& chain) override;

 private:
  // Of requests on the same ring: a drained chain waits for those before it, and those behind it
  // wait for the chain.
  struct LaneState {
    explicit LaneState(Loop& loop) : gate(loop), is_idle(loop) {}
    Mutex gate;
    size_t running = 0;
    WaitList is_idle;
  };
  LaneState& StateOf(Lane lane) { return lanes_[static_cast<size_t>(lane)]; }

  BlkdebugDisk(Disk& below, DebugRules rules, const BlkdebugOptions& options);

  Task<void> CarryOut(Request& request);
  Task<void> CarryOutChain(Chain& chain);
  Task<void> CarryOutMembers(Chain& chain);
  // These give what Finish takes: bytes, or a negative errno.
  Task<int64_t> ResultOf(Request& request);
  Task<int64_t> Transfer(const Request& request);
  Task<int64_t> Zero(const Request& request);
  Task<int64_t> Synchronize();

  Task<void> Pass(DebugEvent event);
  void FollowSize();

  Disk& below_;
  const BlkdebugOptions options_;
  DebugMachine machine_;
  Breakpoints breakpoints_;
  std::array<LaneState, 2> lanes_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BLKDEBUG_BLKDEBUG_DISK_H_
