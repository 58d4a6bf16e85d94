#ifndef RINGCOW_QCOW2_VM_STATE_H_
#define RINGCOW_QCOW2_VM_STATE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/units.h"
#include "qcow2/metadata.h"
#include "qcow2/read_path.h"
#include "qcow2/write_path.h"

namespace ringcow {

// The state of a virtual machine, which a hypervisor keeps behind the guest's disk: in the guest
// offsets of the L1 entries that the disk does not need. Snapshots share it as they share the disk.
// The L1 table grows with it; where that ends, and in clusters nobody wrote to, it reads as zeroes,
// whatever a backing file has there.
//
// Positions are bytes from its beginning.
class VmState {
 public:
  VmState(Metadata& metadata, Allocator& allocator, ReadPath& reader, WritePath& writer)
      : metadata_(metadata), allocator_(allocator), reader_(reader), writer_(writer) {}

  // ENOTSUP for an image with an external data file, whose clusters snapshots cannot share.
  absl::Status CheckSupported() const;
  // The same for writing, and EFBIG when no L1 table can be large enough.
  absl::Status CheckWritable(uint64_t position, uint64_t length) const;

  // Whether the L1 table reaches as far. The range is writable.
  bool HasRoom(uint64_t position, uint64_t length) const;
  // Makes it so, durably. No request is under way.
  Task<absl::Status> MakeRoom(uint64_t position, uint64_t length);

  // Not empty; for Write there is room.
  Task<absl::Status> Read(uint64_t position, std::span<std::byte> into);
  Task<absl::Status> Write(uint64_t position, std::span<const std::byte> from);

 private:
  GuestOffset OffsetOf(uint64_t position) const;
  // Where what the L1 table maps ends.
  GuestOffset End() const;

  Metadata& metadata_;
  Allocator& allocator_;
  ReadPath& reader_;
  WritePath& writer_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_VM_STATE_H_
