#include "qcow2/reservation.h"

#include <algorithm>
#include <utility>

#include "engine/status_macros.h"

namespace ringcow {

std::vector<Reservation::Reserved>::iterator Reservation::FirstBehind(ClusterIndex cluster) {
  return std::ranges::find_if(
      runs_, [&](const Reserved& reserved) { return reserved.run.end() > cluster; });
}

bool Reservation::IsDurable(const Reserved& reserved) const {
  return metadata_.write_back.IsDurable(reserved.counted, Content::kRefcountBlock);
}

uint64_t Reservation::RunFrom(ClusterIndex cluster) const {
  for (const Reserved& reserved : runs_) {
    if (reserved.run.end() <= cluster) continue;
    return cluster < reserved.run.first ? 0 : reserved.run.end() - cluster;
  }
  return 0;
}

Task<absl::Status> Reservation::Add(ClusterRun run) {
  CO_RETURN_IF_ERROR(co_await refcounts_.Set(run, 1));
  clusters_ += run.count;
  runs_.insert(FirstBehind(run.first), {run, metadata_.write_back.now()});
  co_return absl::OkStatus();
}

Task<absl::StatusOr<bool>> Reservation::Take(ClusterRun run) {
  const auto found = FirstBehind(run.first);
  const bool is_all = found != runs_.end() && found->run.first <= run.first &&
                      run.end() <= found->run.end() && IsDurable(*found);
  // The others are to be counted like the rest of `run`, and ordered like it.
  std::vector<ClusterRun> parts;
  for (ClusterIndex at = run.first; !is_all && at < run.end();) {
    const uint64_t count = std::min(RunFrom(at), run.end() - at);
    if (count > 0) parts.push_back({at, count});
    at = at + std::max<uint64_t>(count, 1);
  }
  // Whatever comes: what is not reserved can at worst be leaked.
  Forget(run);
  for (const ClusterRun& part : parts) CO_RETURN_IF_ERROR(co_await refcounts_.Set(part, 0));
  co_return is_all;
}

void Reservation::Forget(ClusterRun run) {
  auto next = FirstBehind(run.first);
  while (next != runs_.end() && next->run.first < run.end()) {
    const Reserved before = *next;
    const ClusterIndex first = std::max(run.first, before.run.first);
    const ClusterIndex end = std::min(run.end(), before.run.end());
    clusters_ -= end - first;
    next = runs_.erase(next);
    if (before.run.end() > end) {
      next = runs_.insert(next, {{end, before.run.end() - end}, before.counted});
    }
    if (before.run.first < first) {
      next = runs_.insert(next, {{before.run.first, first - before.run.first}, before.counted});
      ++next;
    }
    if (before.run.end() > end) break;
  }
}

Task<absl::Status> Reservation::GiveBack() {
  clusters_ = 0;
  // An error leaves the rest leaked.
  for (const Reserved& reserved : std::exchange(runs_, {})) {
    CO_RETURN_IF_ERROR(co_await refcounts_.Set(reserved.run, 0));
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
