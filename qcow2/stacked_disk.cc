#include "qcow2/stacked_disk.h"

#include <cerrno>
#include <optional>

#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {

StackedDisk::StackedDisk(Loop& loop, const Properties& properties)
    : Disk(loop, properties), lanes_{LaneState(loop), LaneState(loop)} {}

void StackedDisk::Start(Request& request) { StartDetached(CarryOut(request)); }

void StackedDisk::StartChain(Chain& chain) { StartDetached(CarryOutChain(chain)); }

Task<void> StackedDisk::CarryOut(Request& request) {
  LaneState& lane = StateOf(request.lane);
  {
    const Mutex::Guard guard = co_await lane.gate.Lock();
  }
  ++lane.running;
  const int64_t result = co_await ResultOf(request);
  if (--lane.running == 0) lane.is_idle.WakeAll();
  Finish(request, result);
}

Task<void> StackedDisk::CarryOutChain(Chain& chain) {
  LaneState& lane = StateOf(chain.lane());
  const bool is_drained = chain.drained();
  std::optional<Mutex::Guard> guard = co_await lane.gate.Lock();
  while (is_drained && lane.running > 0) co_await lane.is_idle.Wait();
  if (!is_drained) guard.reset();
  ++lane.running;
  co_await CarryOutMembers(chain);
  if (--lane.running == 0) lane.is_idle.WakeAll();
}

Task<void> StackedDisk::CarryOutMembers(Chain& chain) {
  bool is_broken = false;
  // The last one that finishes ends the chain's life.
  for (size_t left = chain.size(), i = 0; left > 0; --left, ++i) {
    Request& member = chain.members()[i];
    int64_t result = -ECANCELED;
    if (!is_broken) result = co_await ResultOf(member);
    is_broken |=
        result < 0 || (member.is_transfer() && static_cast<uint64_t>(result) < member.length);
    Finish(member, result);
  }
}

Task<absl::Status> StackedDisk::ForwardChange(Disk& below, const Request& request) {
  const HostOffset offset = request.offset;
  switch (request.op) {
    case Op::kWrite: {
      CO_RETURN_IF_ERROR(co_await below.WriteV(offset, request.memory(), request.content));
      if (!request.dsync) co_return absl::OkStatus();
      co_return co_await below.Fdatasync();
    }
    case Op::kFdatasync:
      co_return co_await below.Fdatasync();
    case Op::kWriteZeroes:
      co_return co_await below.WriteZeroes(offset, request.length, request.content);
    case Op::kPunch:
      co_return co_await below.Punch(offset, request.length);
    case Op::kAllocate:
      co_return co_await below.Allocate(offset, request.length);
    case Op::kTruncate:
      co_return co_await below.Truncate(offset.value());
    case Op::kRead:
      break;
  }
  co_return ErrnoStatus(EOPNOTSUPP, "no change");
}

void StackedDisk::FollowSize(uint64_t bytes) {
  if (bytes <= size()) return;
  Request growth;
  growth.op = Op::kAllocate;
  growth.offset = HostOffset(bytes);
  Finish(growth, 0);
}

}  // namespace ringcow
