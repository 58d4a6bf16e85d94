#ifndef RINGCOW_QCOW2_BITMAP_CONTENTS_H_
#define RINGCOW_QCOW2_BITMAP_CONTENTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/format/bitmap_directory.h"
#include "qcow2/format/dirty_bitmap.h"
#include "qcow2/metadata.h"

namespace ringcow {

// What the bitmap directory's entries point to on the disk: bitmap tables, and clusters of bits.
// Nothing is cached: bitmaps are read once and written once.
class BitmapContents {
 public:
  BitmapContents(Metadata& metadata, Allocator& allocator)
      : metadata_(metadata), allocator_(allocator) {}

  // The directory at `place`. InvalidArgument when it is broken, or lies where it cannot be.
  Task<absl::StatusOr<std::vector<BitmapDirectoryEntry>>> ReadDirectory(BitmapsExtension place);
  // The bits of a usable entry. InvalidArgument where its table is broken, and when all that were
  // read have more clusters than the file: a table may name one as often as it likes, and each
  // costs memory.
  Task<absl::Status> Read(BitmapDirectoryEntry entry, DirtyBitmap& into);

  // Writes to new clusters, which are added to `written` and which nothing refers to as yet. Entry:
  // the place and length of a table with the bits. Durable after a flush.
  Task<absl::Status> Write(const DirtyBitmap& bits, BitmapDirectoryEntry& entry,
                           std::vector<ClusterRun>& written);
  Task<absl::StatusOr<HostOffset>> WriteNew(std::span<const std::byte> bytes,
                                            std::vector<ClusterRun>& written);

  // Gives back the table and the clusters of an entry that is durably gone.
  Task<absl::Status> Free(BitmapDirectoryEntry entry);

 private:
  Task<absl::StatusOr<std::vector<BitmapTableEntry>>> ReadTable(BitmapDirectoryEntry entry);

  Metadata& metadata_;
  Allocator& allocator_;
  uint64_t bytes_read_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BITMAP_CONTENTS_H_
