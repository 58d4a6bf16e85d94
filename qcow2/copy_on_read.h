#ifndef RINGCOW_QCOW2_COPY_ON_READ_H_
#define RINGCOW_QCOW2_COPY_ON_READ_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/range_lock.h"
#include "engine/task.h"
#include "qcow2/format/units.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/read_path.h"
#include "qcow2/write_path.h"
#include "qcow2/zero_path.h"

namespace ringcow {

// Takes what is read from the backing file over into the image, so that it is read there next time.
//
// The guest sees no difference, so a power cut may undo it; what it writes is ordered as any write
// is. Data is written under the lock of its clusters, once they are still found unallocated: a
// guest's write must not be lost under older bytes.
class CopyOnRead {
 public:
  CopyOnRead(Metadata& metadata, Mapper& mapper, ReadPath& reader, WritePath& writer,
             ZeroPath& zeroer, RangeLock& changing)
      : metadata_(metadata),
        mapper_(mapper),
        reader_(reader),
        writer_(writer),
        zeroer_(zeroer),
        changing_(changing) {}

  // All subclusters that the range touches, `length` > 0, inside the virtual disk.
  Task<absl::Status> Copy(GuestOffset offset, uint64_t length);

 private:
  // Copies what is unallocated from `begin` on, at most up to `end`.
  Task<absl::Status> CopyPiece(GuestOffset begin, GuestOffset end);

  Metadata& metadata_;
  Mapper& mapper_;
  ReadPath& reader_;
  WritePath& writer_;
  ZeroPath& zeroer_;
  RangeLock& changing_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_COPY_ON_READ_H_
