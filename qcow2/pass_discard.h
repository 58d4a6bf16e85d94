#ifndef RINGCOW_QCOW2_PASS_DISCARD_H_
#define RINGCOW_QCOW2_PASS_DISCARD_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/geometry.h"
#include "qcow2/metadata.h"

namespace ringcow {

// Gives back the space of clusters.
class PassDiscard {
 public:
  PassDiscard(Metadata& metadata, Allocator& allocator)
      : metadata_(metadata), allocator_(allocator) {}

  // Of those in `run` whose refcount is `refcount`: 1, while their last reference is durably gone;
  // or 0, while nobody allocates. A disk that cannot do it is no failure.
  Task<absl::Status> GiveBack(ClusterRun run, uint64_t refcount);

 private:
  Task<absl::Status> Punch(ClusterRun run);

  Metadata& metadata_;
  Allocator& allocator_;
  bool is_possible_ = true;  // false once the disk has refused
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_PASS_DISCARD_H_
