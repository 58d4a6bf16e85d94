#include "qcow2/reservation.h"

#include <algorithm>
#include <utility>

#include "engine/status_macros.h"

namespace ringcow {

std::vector<Reservation::Reserved>::iterator Reservation::FirstBehind(ClusterIndex cluster) {
  return std::ranges::partition_point(
      runs_, [&](const Reserved& reserved) { return reserved.run.end() <= cluster; });
}

bool Reservation::IsDurable(const Reserved& reserved) const {
  return metadata_.write_back.IsDurable(reserved.counted, Content::kRefcountBlock);
}

std::vector<ClusterRun> Reservation::Runs() const {
  std::vector<ClusterRun> runs;
  runs.reserve(runs_.size());
  for (const Reserved& reserved : runs_) runs.push_back(reserved.run);
  return runs;
}

uint64_t Reservation::RunFrom(ClusterIndex cluster) const {
  const auto found = std::ranges::partition_point(
      runs_, [&](const Reserved& reserved) { return reserved.run.end() <= cluster; });
  if (found == runs_.end() || cluster < found->run.first) return 0;
  return found->run.end() - cluster;
}

bool Reservation::IsDurablyReserved(ClusterRun run) {
  ClusterIndex at = run.first;
  for (auto next = FirstBehind(at); at < run.end(); ++next) {
    if (next == runs_.end() || at < next->run.first || !IsDurable(*next)) return false;
    at = next->run.end();
  }
  return true;
}

Task<absl::Status> Reservation::Add(ClusterRun run) {
  CO_RETURN_IF_ERROR(co_await refcounts_.Set(run, 1));
  clusters_ += run.count;
  runs_.insert(FirstBehind(run.first), {run, metadata_.write_back.now()});
  co_return absl::OkStatus();
}

Task<absl::StatusOr<bool>> Reservation::Take(ClusterRun run) {
  const bool is_all = IsDurablyReserved(run);
  // The others are to be counted like the rest of `run`, and ordered like it.
  std::vector<ClusterRun> parts;
  for (ClusterIndex at = run.first; !is_all && at < run.end();) {
    const uint64_t count = std::min(RunFrom(at), run.end() - at);
    if (count > 0) parts.push_back({at, count});
    at = at + std::max<uint64_t>(count, 1);
  }
  // Whatever comes: what is not reserved can at worst be leaked.
  Forget(run);
  CO_RETURN_IF_ERROR(co_await Lower(parts));
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
  std::vector<ClusterRun> runs;
  for (const Reserved& reserved : std::exchange(runs_, {})) runs.push_back(reserved.run);
  clusters_ = 0;
  co_return co_await Lower(std::move(runs));
}

Task<absl::Status> Reservation::GiveBackBefore(ClusterIndex cluster) {
  std::vector<ClusterRun> runs;
  while (!runs_.empty() && runs_.front().run.first < cluster) {
    const ClusterRun run = runs_.front().run;
    const ClusterIndex end = std::min(run.end(), cluster);
    runs.push_back({run.first, end - run.first});
    Forget(runs.back());
  }
  co_return co_await Lower(std::move(runs));
}

// All of them, whatever becomes of one.
Task<absl::Status> Reservation::Lower(std::vector<ClusterRun> runs) {
  absl::Status status;
  for (const ClusterRun& run : runs) status.Update(co_await refcounts_.Set(run, 0));
  co_return status;
}

}  // namespace ringcow
