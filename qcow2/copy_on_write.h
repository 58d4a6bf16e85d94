#ifndef RINGCOW_QCOW2_COPY_ON_WRITE_H_
#define RINGCOW_QCOW2_COPY_ON_WRITE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/buffer_pool.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/units.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/read_path.h"

namespace ringcow {

// Fills what is about to be entered: with the guest's bytes, and around them with what the guest
// reads there now. Both sides are read at the same time, and all of it is one write.
class CopyOnWrite {
 public:
  CopyOnWrite(Metadata& metadata, ReadPath& reader) : metadata_(metadata), reader_(reader) {}

  // Fills `filled` with `from` (not empty, inside it) and around it with what the guest reads
  // there. Until the caller enters it, nothing refers to those bytes; the guest clusters are not
  // changed by anybody else meanwhile. `mapping` is how all of `from` is mapped as yet. Says what
  // the guest would see if the reference became durable without the data.
  Task<absl::StatusOr<Exposure>> Fill(FilledRun filled, Mapping mapping, GuestOffset offset,
                                      std::span<const std::byte> from);

 private:
  // Guest bytes to be copied.
  struct Side {
    GuestOffset offset;
    uint64_t length = 0;
    bool is_zero = true;  // known to read as zeroes
  };

  Task<absl::Status> WriteAround(HostOffset host, Side head, std::span<const std::byte> from,
                                 Side tail);
  Task<absl::Status> ReadSides(Side head, std::span<std::byte> head_bytes, Side tail,
                               std::span<std::byte> tail_bytes);

  Metadata& metadata_;
  ReadPath& reader_;
  BufferPool buffers_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_COPY_ON_WRITE_H_
