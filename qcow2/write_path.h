#ifndef RINGCOW_QCOW2_WRITE_PATH_H_
#define RINGCOW_QCOW2_WRITE_PATH_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/range_lock.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/units.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"

namespace ringcow {

// Guest writes. Bytes whose cluster the image owns go straight to it. Others get a new cluster: its
// refcount is raised in memory, the data is written, and when that is done the L2 entry is set in
// memory. No metadata is written in a request's path, unless the cache is full or writethrough.
//
// A cluster that is being allocated is locked until its L2 entry is set, so that two writes to it
// do not get a host cluster each. Clusters that are mapped already are never locked.
class WritePath {
 public:
  WritePath(Metadata& metadata, Mapper& mapper, Allocator& allocator);

  // `from` is not empty and lies inside the virtual disk.
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from);

 private:
  Task<absl::Status> WritePieces(GuestOffset offset, std::span<const std::byte> from,
                                 Mapping first);
  Task<absl::Status> WritePiece(GuestOffset offset, std::span<const std::byte> from,
                                Mapping mapping);
  Task<absl::Status> WriteAllocating(GuestOffset offset, std::span<const std::byte> from);
  // Writes what it can from the front of `from`; says how much.
  Task<absl::StatusOr<uint64_t>> AllocateAndWrite(GuestOffset offset,
                                                  std::span<const std::byte> from, Mapping mapping);
  Task<absl::Status> WriteInto(const AllocatedRun& run, uint64_t in_cluster,
                               std::span<const std::byte> from);
  Task<absl::Status> CheckOwned(Mapping mapping);

  Metadata& metadata_;
  Mapper& mapper_;
  Allocator& allocator_;
  RangeLock allocating_;  // guest bytes, whole clusters
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_WRITE_PATH_H_
