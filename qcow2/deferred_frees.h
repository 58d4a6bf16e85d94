#ifndef RINGCOW_QCOW2_DEFERRED_FREES_H_
#define RINGCOW_QCOW2_DEFERRED_FREES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "cache/table.h"
#include "engine/mutex.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/pass_discard.h"
#include "qcow2/pass_discard_options.h"
#include "qcow2/refcounts.h"
#include "qcow2/requests.h"

namespace ringcow {

// Clusters that lost a reference, and whose refcounts are still too high on purpose: lowered before
// the removal of the reference is durable, a power cut would leave a reference to a free cluster;
// given to somebody else before the requests that may still be using it have ended, it would get
// their bytes. So the refcounts of many removals are lowered together, after a flush, and a crash
// before that leaks the clusters.
class DeferredFrees {
 public:
  DeferredFrees(Metadata& metadata, Allocator& allocator, const Requests& requests,
                PassDiscardOptions pass_discard)
      : metadata_(metadata),
        allocator_(allocator),
        requests_(requests),
        options_(pass_discard),
        pass_discard_(metadata, allocator),
        applying_(metadata.disk.loop()) {}

  enum class Was : uint8_t {
    kData,
    kDiscarded,  // by the guest
    kL2Table,    // what the cache holds of it goes with it
  };
  // A reference to each cluster of `run` was removed just now, in memory.
  void Add(ClusterRun run, Was was);

  // Lowers the refcounts of what was removed up to the change `durable`, which is durable, and of
  // which no request is left that could use it. What this changes is written by the next flush.
  // On an error the rest stays leaked.
  Task<absl::Status> Apply(Version durable);

  bool empty() const { return next_ == pending_.size(); }
  uint64_t clusters() const { return clusters_; }
  // Of those, the ones that somebody discarded.
  uint64_t discarded_clusters() const { return discarded_clusters_; }

 private:
  struct Pending {
    ClusterRun run;
    Was was = Was::kData;
    Version removed = 0;              // the change that removed the reference
    Requests::Ordinal last_user = 0;  // the newest request that may know the cluster
  };

  Pending TakeNext();

  Metadata& metadata_;
  Allocator& allocator_;
  const Requests& requests_;
  const PassDiscardOptions options_;
  PassDiscard pass_discard_;
  // From `next_` on; both numbers grow from front to back. The memory is kept for the next ones: a
  // deque asks for some again and again.
  std::vector<Pending> pending_;
  size_t next_ = 0;
  uint64_t clusters_ = 0;
  uint64_t discarded_clusters_ = 0;
  Mutex applying_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_DEFERRED_FREES_H_
