#ifndef RINGCOW_QCOW2_BITMAPS_H_
#define RINGCOW_QCOW2_BITMAPS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/bitmap_contents.h"
#include "qcow2/format/bitmap_directory.h"
#include "qcow2/format/dirty_bitmap.h"
#include "qcow2/format/units.h"
#include "qcow2/metadata.h"

namespace ringcow {

// The persistent dirty bitmaps of an open image. They are changed in memory, and stored on Close.
//
// A bitmap whose bits on the disk are not those in memory, or may not be at any moment, is marked
// there as in use, durably and before they differ: those that follow the guest's writes from the
// beginning on, others by their first change. So a crash leaves a bitmap as it was before, or one
// that says of itself that it is no good. Storing writes everything to new clusters and then lets
// the header name the new directory.
//
// Bitmaps that are found in use, or with extra data that this build does not know, are
// inconsistent: they are kept as they are, and can only be removed.
class Bitmaps {
 public:
  Bitmaps(Metadata& metadata, Allocator& allocator)
      : metadata_(metadata), allocator_(allocator), contents_(metadata, allocator) {}

  // Reads all that count. Once: later calls do nothing. InvalidArgument for a broken directory.
  Task<absl::Status> Load();
  // For writing, before the first write.
  Task<absl::Status> BeginTracking();

  bool empty() const { return bitmaps_.empty(); }
  // As they would be stored now; in_use says that they are inconsistent.
  std::vector<BitmapDirectoryEntry> List() const;
  // NotFound, or FailedPrecondition when it is inconsistent; in QEMU's words.
  absl::StatusOr<const DirtyBitmap*> Find(absl::string_view name) const;

  // The guest changes these bytes.
  void SetDirty(GuestOffset offset, uint64_t length) {
    if (!tracking_.empty()) SetDirtyIn(offset, length);
  }

  // Errors are those of Find and of ValidateNewBitmap, AlreadyExists, and the disk's. Names are
  // taken by value, for they are tasks.
  Task<absl::Status> Add(std::string name, uint64_t granularity, bool enabled);
  Task<absl::Status> Remove(std::string name);
  Task<absl::Status> Clear(std::string name);
  Task<absl::Status> SetEnabled(std::string name, bool enabled);
  // `from`, of a disk of the same size, lives until the task ends.
  Task<absl::Status> Merge(std::string name, const DirtyBitmap& from);

  // Around a change of the virtual size: FailedPrecondition when a bitmap is inconsistent, for then
  // it could not be changed, OutOfRange when one would become too large.
  Task<absl::Status> PrepareResize(Geometry resized);
  void Resize();

  // Stores what is to be stored. On an error the disk has what it had, marked as in use.
  Task<absl::Status> Store();
  // The end of the directory on the disk, which is what Store writes last; 0 without one.
  HostOffset stored_end() const {
    return place_.has_value() ? place_->directory_offset + place_->directory_bytes : HostOffset(0);
  }

 private:
  struct Bitmap {
    BitmapDirectoryEntry entry;         // in_use: it is inconsistent
    std::unique_ptr<DirtyBitmap> bits;  // null then
    std::optional<size_t> stored;       // its index in directory_
    bool is_changed = false;            // its bits are not those on the disk
  };
  using BitmapList = std::vector<std::unique_ptr<Bitmap>>;

  BitmapList::const_iterator FindByName(absl::string_view name) const;
  absl::StatusOr<Bitmap*> FindUsable(absl::string_view name) const;
  absl::Status CheckNew(absl::string_view name, uint64_t granularity) const;
  void SetDirtyIn(GuestOffset offset, uint64_t length);
  void UpdateTracking();
  // Marks those on the disk that have a place there and are not marked yet.
  Task<absl::Status> MarkInUse(std::vector<Bitmap*> bitmaps);
  // Where the disk has the directory from now on.
  void SetPlace(std::optional<BitmapsExtension> place);
  bool IsStored() const;
  // Writes all that are consistent to new clusters, and then a new directory; nothing without one.
  Task<absl::StatusOr<std::optional<BitmapsExtension>>> WriteAll(
      std::vector<BitmapDirectoryEntry>& directory, std::vector<ClusterRun>& written);
  Task<absl::Status> FreeReplaced(std::vector<BitmapDirectoryEntry> old,
                                  std::optional<BitmapsExtension> old_place);

  Metadata& metadata_;
  Allocator& allocator_;
  BitmapContents contents_;
  bool is_loaded_ = false;
  BitmapList bitmaps_;
  std::vector<Bitmap*> tracking_;  // the enabled ones
  // What the disk has.
  std::optional<BitmapsExtension> place_;
  std::vector<BitmapDirectoryEntry> directory_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BITMAPS_H_
