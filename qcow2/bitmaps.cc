#include "qcow2/bitmaps.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/bitmaps_extension_store.h"
#include "qcow2/reworded.h"

namespace ringcow {

Task<absl::Status> Bitmaps::Load() {
  if (is_loaded_) co_return absl::OkStatus();
  const Header& header = metadata_.header;
  if (header.bitmaps_valid() && header.extensions.bitmaps.has_value()) {
    const absl::StatusOr<BitmapsExtension> place =
        ParseBitmapsExtension(*header.extensions.bitmaps, metadata_.geometry);
    CO_RETURN_IF_ERROR(Named(metadata_.disk, place.status()));
    CO_ASSIGN_OR_RETURN(directory_, co_await contents_.ReadDirectory(*place));
    SetPlace(*place);
  }
  for (size_t i = 0; i < directory_.size(); ++i) {
    auto bitmap = std::make_unique<Bitmap>();
    bitmap->entry = directory_[i];
    bitmap->stored = i;
    if (directory_[i].usable()) {
      bitmap->bits =
          std::make_unique<DirtyBitmap>(metadata_.geometry, directory_[i].granularity_bits);
      CO_RETURN_IF_ERROR(co_await contents_.Read(directory_[i], *bitmap->bits));
    }
    bitmaps_.push_back(std::move(bitmap));
  }
  is_loaded_ = true;
  co_return absl::OkStatus();
}

void Bitmaps::SetPlace(std::optional<BitmapsExtension> place) {
  place_ = place;
  OverlapGuard::Range range;
  if (place.has_value()) {
    range = {place->directory_offset, place->directory_offset + place->directory_bytes};
  }
  metadata_.guard.SetBitmapDirectory(range);
}

Task<absl::Status> Bitmaps::BeginTracking() {
  UpdateTracking();
  co_return co_await MarkInUse(tracking_);
}

void Bitmaps::UpdateTracking() {
  tracking_.clear();
  for (const std::unique_ptr<Bitmap>& bitmap : bitmaps_) {
    if (bitmap->bits != nullptr && bitmap->entry.automatic) tracking_.push_back(bitmap.get());
  }
}

// In place: an entry's flags lie in one sector, and any mixture of old and new ones is right.
Task<absl::Status> Bitmaps::MarkInUse(std::vector<Bitmap*> bitmaps) {
  if (!place_.has_value()) co_return absl::OkStatus();
  std::vector<BitmapDirectoryEntry> marked = directory_;
  for (const Bitmap* bitmap : bitmaps) {
    if (bitmap->stored.has_value()) marked[*bitmap->stored].in_use = true;
  }
  const auto is_same = [](const BitmapDirectoryEntry& a, const BitmapDirectoryEntry& b) {
    return a.in_use == b.in_use;
  };
  if (std::equal(marked.begin(), marked.end(), directory_.begin(), is_same)) {
    co_return absl::OkStatus();
  }
  CO_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, SerializeBitmapDirectory(marked));
  CO_RETURN_IF_ERROR(metadata_.guard.BeforeWrite(place_->directory_offset, bytes.size(),
                                                 OverlapGuard::Own::kBitmapDirectory));
  CO_RETURN_IF_ERROR(
      co_await metadata_.disk.Write(place_->directory_offset, bytes, Content::kOther));
  CO_RETURN_IF_ERROR(co_await metadata_.write_back.Flush());
  directory_ = std::move(marked);
  co_return absl::OkStatus();
}

std::vector<BitmapDirectoryEntry> Bitmaps::List() const {
  std::vector<BitmapDirectoryEntry> entries;
  entries.reserve(bitmaps_.size());
  for (const std::unique_ptr<Bitmap>& bitmap : bitmaps_) entries.push_back(bitmap->entry);
  return entries;
}

Bitmaps::BitmapList::const_iterator Bitmaps::FindByName(absl::string_view name) const {
  return std::find_if(
      bitmaps_.begin(), bitmaps_.end(),
      [name](const std::unique_ptr<Bitmap>& bitmap) { return bitmap->entry.name == name; });
}

absl::StatusOr<Bitmaps::Bitmap*> Bitmaps::FindUsable(absl::string_view name) const {
  const auto found = FindByName(name);
  if (found == bitmaps_.end()) {
    return absl::NotFoundError(absl::StrFormat("Dirty bitmap '%s' not found", name));
  }
  if ((*found)->bits != nullptr) return found->get();
  return absl::FailedPreconditionError(
      absl::StrFormat("Bitmap '%s' is inconsistent and cannot be used\nTry "
                      "block-dirty-bitmap-remove to delete this bitmap from disk",
                      name));
}

absl::StatusOr<const DirtyBitmap*> Bitmaps::Find(absl::string_view name) const {
  ASSIGN_OR_RETURN(const Bitmap* bitmap, FindUsable(name));
  return bitmap->bits.get();
}

void Bitmaps::SetDirtyIn(GuestOffset offset, uint64_t length) {
  for (Bitmap* bitmap : tracking_) {
    bitmap->bits->Set(offset, length);
    bitmap->is_changed = true;
  }
}

absl::Status Bitmaps::CheckNew(absl::string_view name, uint64_t granularity) const {
  RETURN_IF_ERROR(ValidateNewBitmap(metadata_.geometry, name, granularity));
  if (FindByName(name) != bitmaps_.end()) {
    return absl::AlreadyExistsError(absl::StrFormat("Bitmap already exists: %s", name));
  }
  if (metadata_.header.version < 3) {
    return absl::FailedPreconditionError("Cannot store dirty bitmaps in qcow2 v2 files");
  }
  if (bitmaps_.size() < kMaxBitmaps) return absl::OkStatus();
  return absl::OutOfRangeError("Maximum number of persistent bitmaps is already reached");
}

Task<absl::Status> Bitmaps::Add(std::string name, uint64_t granularity, bool enabled) {
  CO_RETURN_IF_ERROR(CheckNew(name, granularity));
  auto bitmap = std::make_unique<Bitmap>();
  bitmap->entry.name = std::move(name);
  bitmap->entry.automatic = enabled;
  bitmap->entry.granularity_bits = static_cast<uint8_t>(std::countr_zero(granularity));
  bitmap->bits = std::make_unique<DirtyBitmap>(metadata_.geometry, bitmap->entry.granularity_bits);
  bitmap->is_changed = true;
  bitmaps_.push_back(std::move(bitmap));
  UpdateTracking();
  co_return absl::OkStatus();
}

Task<absl::Status> Bitmaps::Remove(std::string name) {
  const auto found = FindByName(name);
  if (found == bitmaps_.end()) {
    co_return absl::NotFoundError(absl::StrFormat("Dirty bitmap '%s' not found", name));
  }
  bitmaps_.erase(found);
  UpdateTracking();
  co_return absl::OkStatus();
}

Task<absl::Status> Bitmaps::Clear(std::string name) {
  CO_ASSIGN_OR_RETURN(Bitmap* const bitmap, FindUsable(name));
  CO_RETURN_IF_ERROR(co_await MarkInUse({bitmap}));
  bitmap->bits->ClearAll();
  bitmap->is_changed = true;
  co_return absl::OkStatus();
}

Task<absl::Status> Bitmaps::SetEnabled(std::string name, bool enabled) {
  CO_ASSIGN_OR_RETURN(Bitmap* const bitmap, FindUsable(name));
  CO_RETURN_IF_ERROR(co_await MarkInUse({bitmap}));
  bitmap->entry.automatic = enabled;
  UpdateTracking();
  co_return absl::OkStatus();
}

Task<absl::Status> Bitmaps::Merge(std::string name, const DirtyBitmap& from) {
  CO_ASSIGN_OR_RETURN(Bitmap* const bitmap, FindUsable(name));
  CO_RETURN_IF_ERROR(co_await MarkInUse({bitmap}));
  bitmap->bits->Merge(from);
  bitmap->is_changed = true;
  co_return absl::OkStatus();
}

Task<absl::Status> Bitmaps::PrepareResize(Geometry resized) {
  std::vector<Bitmap*> all;
  for (const std::unique_ptr<Bitmap>& bitmap : bitmaps_) {
    CO_RETURN_IF_ERROR(FindUsable(bitmap->entry.name).status());
    CO_RETURN_IF_ERROR(ValidateNewBitmap(resized, bitmap->entry.name, bitmap->bits->granularity()));
    all.push_back(bitmap.get());
  }
  co_return co_await MarkInUse(std::move(all));
}

void Bitmaps::Resize() {
  for (const std::unique_ptr<Bitmap>& bitmap : bitmaps_) {
    if (bitmap->bits == nullptr) continue;
    bitmap->bits->Resize(metadata_.geometry.virtual_size());
    bitmap->is_changed = true;
  }
}

// Whether the disk has all of this as it is.
bool Bitmaps::IsStored() const {
  if (bitmaps_.size() != directory_.size()) return false;
  return std::all_of(bitmaps_.begin(), bitmaps_.end(),
                     [this](const std::unique_ptr<Bitmap>& bitmap) {
                       return bitmap->stored.has_value() && !bitmap->is_changed &&
                              directory_[*bitmap->stored].in_use == bitmap->entry.in_use;
                     });
}

Task<absl::StatusOr<std::optional<BitmapsExtension>>> Bitmaps::WriteAll(
    std::vector<BitmapDirectoryEntry>& directory, std::vector<ClusterRun>& written) {
  for (const std::unique_ptr<Bitmap>& bitmap : bitmaps_) {
    BitmapDirectoryEntry entry = bitmap->entry;
    // Those that have not changed as well, which is where QEMU would put them.
    if (bitmap->bits != nullptr) {
      const absl::Status status = co_await contents_.Write(*bitmap->bits, entry, written);
      if (!status.ok()) {
        co_return Reworded(status, absl::StrFormat("Failed to write bitmap '%s' to file: %s",
                                                   entry.name, std::strerror(ErrnoOf(status))));
      }
    }
    directory.push_back(std::move(entry));
  }
  std::optional<BitmapsExtension> place;
  if (!directory.empty()) {
    CO_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, SerializeBitmapDirectory(directory));
    CO_ASSIGN_OR_RETURN(const HostOffset offset, co_await contents_.WriteNew(bytes, written));
    place = BitmapsExtension{static_cast<uint32_t>(directory.size()), bytes.size(), offset};
  }
  CO_RETURN_IF_ERROR(co_await metadata_.write_back.Flush());
  co_return place;
}

Task<absl::Status> Bitmaps::Store() {
  if (!is_loaded_ || IsStored()) co_return absl::OkStatus();
  std::vector<BitmapDirectoryEntry> directory;
  std::vector<ClusterRun> written;
  absl::StatusOr<std::optional<BitmapsExtension>> place = co_await WriteAll(directory, written);
  if (!place.ok()) {
    absl::Status status = place.status();
    for (const ClusterRun& run : written) status.Update(co_await allocator_.Free(run));
    co_return status;
  }
  // Should this fail, nobody knows which of the two the header names: both stay.
  CO_RETURN_IF_ERROR(co_await StoreBitmapsExtension(metadata_, *place));
  const std::vector<BitmapDirectoryEntry> old = std::exchange(directory_, std::move(directory));
  const std::optional<BitmapsExtension> old_place = place_;
  SetPlace(*place);
  for (size_t i = 0; i < bitmaps_.size(); ++i) {
    bitmaps_[i]->entry = directory_[i];
    bitmaps_[i]->stored = i;
    bitmaps_[i]->is_changed = false;
  }
  CO_RETURN_IF_ERROR(co_await FreeReplaced(old, old_place));
  co_return co_await metadata_.write_back.Flush();
}

Task<absl::Status> Bitmaps::FreeReplaced(std::vector<BitmapDirectoryEntry> old,
                                         std::optional<BitmapsExtension> old_place) {
  for (const BitmapDirectoryEntry& entry : old) {
    const bool is_kept = std::any_of(directory_.begin(), directory_.end(),
                                     [&entry](const BitmapDirectoryEntry& now) {
                                       return now.table_offset == entry.table_offset;
                                     });
    if (!is_kept) CO_RETURN_IF_ERROR(co_await contents_.Free(entry));
  }
  if (!old_place.has_value()) co_return absl::OkStatus();
  const Geometry& geometry = metadata_.geometry;
  const ClusterRun run{geometry.ClusterOf(old_place->directory_offset),
                       geometry.ClustersFor(old_place->directory_bytes)};
  co_return co_await allocator_.RemoveReference(run, /*is_l2_table=*/false);
}

}  // namespace ringcow
