#ifndef RINGCOW_QCOW2_GROWTH_H_
#define RINGCOW_QCOW2_GROWTH_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/mutex.h"
#include "engine/task.h"

namespace ringcow {

// Makes the host file large enough before clusters in it are used. A write that extends a file
// takes its inode lock exclusively and costs a journal transaction, so the file grows in large
// steps ahead of need, with its blocks allocated where the filesystem can.
//
// The new size is volatile until the next fsync, like any write: whoever refers to a cluster behind
// the old end lets an fsync come first. (A cluster's refcount and every reference to it are written
// in this order with an fsync between them, which is enough.)
class Growth {
 public:
  enum class Manner : uint8_t {
    kAhead,   // in large steps, allocated
    kNeeded,  // by what is needed, allocated
    kSparse,  // by what is needed, as a hole; not while other requests are under way
  };

  Growth(Disk& disk, Manner manner) : disk_(disk), manner_(manner), one_at_a_time_(disk.loop()) {}

  // The disk ends at `end` or later afterwards. ENOSPC when it cannot.
  Task<absl::Status> Cover(HostOffset end);

  // The same for what is not needed yet; OutOfRange where the disk is not to grow ahead of need.
  Task<absl::Status> CoverAhead(HostOffset end);

 private:
  Task<absl::Status> GrowTo(uint64_t size);

  Disk& disk_;
  const Manner manner_;
  bool can_allocate_ = true;
  Mutex one_at_a_time_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_GROWTH_H_
