#ifndef RINGCOW_QCOW2_RESIZE_H_
#define RINGCOW_QCOW2_RESIZE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/deferred_frees.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/options.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/read_path.h"
#include "qcow2/zero_path.h"

namespace ringcow {

// Changes the virtual size, with no guest request under way. One write of the header's sector makes
// the new size count:
//   - growing, when the L1 table is large enough and all that the guest has not seen yet reads as
//     zeroes (a longer backing file would shine through),
//   - shrinking, when the clusters behind the new end are no longer referred to. A power cut before
//     that leaves the old size, with zeroes where they were, or the backing file's bytes.
// A VM state (see VmState) is given up before that, durably.
// An external data file becomes longer before that, with zeroes, and shorter after it.
class Resize {
 public:
  Resize(Metadata& metadata, Allocator& allocator, DeferredFrees& frees, Mapper& mapper,
         ReadPath& reader, ZeroPath& zeroer)
      : metadata_(metadata),
        allocator_(allocator),
        frees_(frees),
        mapper_(mapper),
        reader_(reader),
        zeroer_(zeroer) {}

  // `virtual_size` is whole sectors. `backing_bytes`: how long the backing file is, 0 without one.
  // OutOfRange when the format cannot be so large.
  Task<absl::Status> To(uint64_t virtual_size, uint64_t backing_bytes, Preallocation preallocation);

 private:
  Task<absl::Status> ForgetVmState();
  Task<absl::Status> Grow(Geometry grown, uint64_t backing_bytes, Preallocation preallocation);
  Task<absl::Status> FillNew(uint64_t old_size, uint64_t backing_bytes,
                             Preallocation preallocation);
  Task<absl::Status> Shrink(Geometry shrunk);
  Task<absl::Status> CheckCut(uint64_t begin, uint64_t end);
  // Changes nothing where zeroes are read already.
  Task<absl::Status> MakeZero(GuestOffset begin, GuestOffset end);
  Task<absl::Status> GrowDataFile(uint64_t old_size, uint64_t new_size, bool must_be_zero);
  void UnlinkL2Tables(uint64_t first_l1_index);
  // Stores the size of metadata_.geometry, durably.
  Task<absl::Status> StoreSize();

  Metadata& metadata_;
  Allocator& allocator_;
  DeferredFrees& frees_;
  Mapper& mapper_;
  ReadPath& reader_;
  ZeroPath& zeroer_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_RESIZE_H_
