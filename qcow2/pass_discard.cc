#include "qcow2/pass_discard.h"

#include "engine/status_macros.h"

namespace ringcow {

Task<absl::Status> PassDiscard::GiveBack(ClusterRun run, uint64_t refcount) {
  // Else compressed data could come to lie behind this while it is being punched.
  co_await allocator_.LeaveUnpacked(run);
  ClusterRun punched{run.first, 0};
  while (is_possible_ && punched.end() <= run.end()) {
    if (punched.end() < run.end()) {
      CO_ASSIGN_OR_RETURN(const uint64_t found, co_await allocator_.refcounts().Get(punched.end()));
      if (found == refcount) {
        ++punched.count;
        continue;
      }
    }
    if (punched.count > 0) CO_RETURN_IF_ERROR(co_await Punch(punched));
    punched = {punched.end() + 1, 0};
  }
  co_return absl::OkStatus();
}

Task<absl::Status> PassDiscard::Punch(ClusterRun run) {
  const Geometry& geometry = metadata_.geometry;
  const HostOffset begin = geometry.OffsetOf(run.first);
  const uint64_t bytes = run.count * geometry.cluster_bytes();
  CO_RETURN_IF_ERROR(metadata_.guard.BeforeWrite(begin, bytes, OverlapGuard::Own::kNothing));
  const absl::Status status = co_await metadata_.disk.Punch(begin, bytes);
  // Space that is not given back is no failure of what was asked for.
  if (!status.ok()) is_possible_ = false;
  co_return absl::OkStatus();
}

}  // namespace ringcow
