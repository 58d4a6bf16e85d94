#ifndef RINGCOW_QCOW2_RESERVATION_H_
#define RINGCOW_QCOW2_RESERVATION_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/table.h"
#include "engine/task.h"
#include "qcow2/format/units.h"
#include "qcow2/metadata.h"
#include "qcow2/refcounts.h"

namespace ringcow {

// Free clusters whose refcounts were raised to one ahead of need, together with others.
//
// Once that is durable, a table may refer to such a cluster without waiting for its refcount: a
// flush after allocations is then the L2 tables and one fsync, where it had been the refcount
// blocks, an fsync, the L2 tables, an fsync. For everybody who looks for free clusters they are
// free like any other, so that clusters are given out in the same order with and without it.
//
// Nothing refers to them, so a crash leaks them; whoever closes the image gives them back.
class Reservation {
 public:
  Reservation(Metadata& metadata, Refcounts& refcounts)
      : metadata_(metadata), refcounts_(refcounts) {}
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  bool empty() const { return runs_.empty(); }
  uint64_t clusters() const { return clusters_; }
  std::vector<ClusterRun> Runs() const;  // sorted, disjoint
  // How many neighbouring clusters from `cluster` on are reserved; 0 when it is not.
  uint64_t RunFrom(ClusterIndex cluster) const;

  // Reserves `run`, whose refcounts are 0 and have blocks, on a part of the disk that it reaches by
  // now: the next flush makes the disk's size durable with them.
  Task<absl::Status> Add(ClusterRun run);

  // `run` is about to be used. True when all of it was reserved, durably: its refcounts are one,
  // and what refers to it has nothing to wait for. Else those that were reserved have a refcount of
  // 0 again, like the others.
  Task<absl::StatusOr<bool>> Take(ClusterRun run);

  // Gives all of it back, or what lies before `cluster`. What this changes is written by the next
  // flush. On an error, the first, something is leaked.
  Task<absl::Status> GiveBack();
  Task<absl::Status> GiveBackBefore(ClusterIndex cluster);

  // The refcounts of `run` are set by others: nothing of it is reserved any more.
  void Forget(ClusterRun run);

 private:
  struct Reserved {
    ClusterRun run;
    Version counted = 0;  // the change that raised the refcounts
  };

  // The first run that ends behind `cluster`.
  std::vector<Reserved>::iterator FirstBehind(ClusterIndex cluster);
  bool IsDurable(const Reserved& reserved) const;
  bool IsDurablyReserved(ClusterRun run);
  Task<absl::Status> Lower(std::vector<ClusterRun> runs);

  Metadata& metadata_;
  Refcounts& refcounts_;
  std::vector<Reserved> runs_;  // sorted, disjoint, few
  uint64_t clusters_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_RESERVATION_H_
