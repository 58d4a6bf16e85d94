#ifndef RINGCOW_QCOW2_STACKED_DISK_H_
#define RINGCOW_QCOW2_STACKED_DISK_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "engine/chain.h"
#include "engine/disk.h"
#include "engine/loop.h"
#include "engine/mutex.h"
#include "engine/request.h"
#include "engine/task.h"
#include "engine/wait_list.h"

namespace ringcow {

// A disk that is made of something else: each of its requests is a coroutine. The members of a
// chain are carried out one by one, each when the one before it has succeeded in full; a drained
// chain waits for what was handed over before it on its lane, and what is handed over later waits
// for the chain.
class StackedDisk : public Disk {
 protected:
  StackedDisk(Loop& loop, const Properties& properties);

  // Carries out one request. Gives what Finish takes: bytes, or a negative errno.
  virtual Task<int64_t> ResultOf(Request& request) = 0;

  // Carries out a request, any but a read, on a disk below.
  static Task<absl::Status> ForwardChange(Disk& below, const Request& request);

  // The disk is at least so long, though the request that made it so has failed.
  void FollowSize(uint64_t bytes);

 private:
  // Of requests on the same ring.
  struct LaneState {
    explicit LaneState(Loop& loop) : gate(loop), is_idle(loop) {}
    Mutex gate;
    size_t running = 0;
    WaitList is_idle;
  };
  LaneState& StateOf(Lane lane) { return lanes_[static_cast<size_t>(lane)]; }

  void Start(Request& request) final;
  void StartChain(Chain& chain) final;
  Task<void> CarryOut(Request& request);
  Task<void> CarryOutChain(Chain& chain);
  Task<void> CarryOutMembers(Chain& chain);

  std::array<LaneState, 2> lanes_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_STACKED_DISK_H_
