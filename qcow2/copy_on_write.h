#ifndef RINGCOW_QCOW2_COPY_ON_WRITE_H_
#define RINGCOW_QCOW2_COPY_ON_WRITE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/buffer_pool.h"
#include "engine/chain.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/units.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/read_path.h"

namespace ringcow {

// Fills what is about to be entered: with the guest's bytes, and around them with what the guest
// reads there now. All of it is one write. Where metadata tells where both sides are stored, reads
// and write are one chain; else the sides are read at the same time, and then written.
class CopyOnWrite {
 public:
  CopyOnWrite(Metadata& metadata, ReadPath& reader) : metadata_(metadata), reader_(reader) {}

  // Guest bytes to be copied.
  struct Side {
    GuestOffset offset;
    uint64_t length = 0;
    bool is_zero = true;  // known to read as zeroes
  };

  // How something is filled.
  struct Filling {
    HostOffset host;  // where it begins: with the head, then the guest's bytes, then the tail
    Side head;
    Side tail;
    bool is_alone = false;  // the guest's bytes are all that has to be written
    // What the guest would see if the reference became durable without the data.
    Exposure exposure = Exposure::kOther;

    HostOffset host_of_data() const { return host + head.length; }
  };

  // For `length` > 0 bytes at `offset`, inside `filled`. `mapping` is how they are mapped as yet,
  // or says of several kinds what matters: zero only where none of them is anything else, but for
  // those that keep their place. The guest clusters are not changed by anybody else until Fill has
  // ended.
  Task<absl::StatusOr<Filling>> Prepare(FilledRun filled, Mapping mapping, GuestOffset offset,
                                        uint64_t length);

  // Writes `from`, and around it what the guest reads there.
  Task<absl::Status> Fill(Filling filling, std::span<const std::byte> from);

 private:
  // False where it is not known where the side is stored, or where its disk cannot be linked.
  bool AppendRead(Chain& chain, Side side, std::span<std::byte> into) const;
  // Whether somebody wants to see a request between its stages.
  bool GoesByStages() const {
    return metadata_.events != nullptr && metadata_.events->Watches(DebugEvent::kCowRead);
  }
  // Where it may have been held up for long.
  Task<absl::Status> PassBeforeReading();
  Task<absl::Status> ReadSides(Side head, std::span<std::byte> head_bytes, Side tail,
                               std::span<std::byte> tail_bytes);

  Metadata& metadata_;
  ReadPath& reader_;
  BufferPool buffers_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_COPY_ON_WRITE_H_
