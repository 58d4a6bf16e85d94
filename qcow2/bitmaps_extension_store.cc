#include "qcow2/bitmaps_extension_store.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/extension_place.h"
#include "qcow2/format/header_layout.h"
#include "qcow2/format/limits.h"

namespace ringcow {
namespace {

constexpr uint64_t kPayloadBytes = 24;
constexpr uint64_t kMarkBytes = 8;  // a magic number and a length

// The header as it is in the cache, and its list of extensions.
class HeaderCluster {
 public:
  explicit HeaderCluster(Metadata& metadata) : metadata_(metadata) {}

  std::optional<ExtensionPlace> Find(uint32_t magic) const {
    return FindExtension(bytes(), fields().header_length.value(), list_end(), magic);
  }
  bool is_valid() const { return metadata_.header.bitmaps_valid(); }
  // Bitmaps count, or do not; with what else was changed since the last flush.
  Task<absl::Status> SetValid(bool valid);
  // A flush must follow.
  void Put(uint64_t at, std::span<const std::byte> from);
  // An empty list entry at the end of the list, with room for the extension behind it.
  Task<absl::StatusOr<uint64_t>> MakeRoom();
  Task<absl::Status> Flush() { return metadata_.write_back.Flush(); }

 private:
  std::span<std::byte> bytes() const { return metadata_.header_pin.bytes(); }
  HeaderOnDisk& fields() const { return *reinterpret_cast<HeaderOnDisk*>(bytes().data()); }
  uint64_t list_end() const {
    const uint64_t name = fields().backing_file_offset.value();
    return name != 0 ? name : bytes().size();
  }
  Task<absl::Status> MoveBackingName(uint64_t behind);

  Metadata& metadata_;
};

Task<absl::Status> HeaderCluster::SetValid(bool valid) {
  uint64_t& features = metadata_.header.autoclear_features;
  features = valid ? features | kAutoclearBitmaps : features & ~kAutoclearBitmaps;
  metadata_.StoreHeader();
  co_return co_await Flush();
}

void HeaderCluster::Put(uint64_t at, std::span<const std::byte> from) {
  std::copy(from.begin(), from.end(), bytes().begin() + static_cast<ptrdiff_t>(at));
  metadata_.header_cache.MarkDirty(metadata_.header_pin, at, from.size());
}

absl::Status NoRoom(const Metadata& metadata) {
  return Named(metadata.disk,
               absl::OutOfRangeError("The header has no room for the bitmaps extension"));
}

// A copy of the name is durable before the header points to it.
Task<absl::Status> HeaderCluster::MoveBackingName(uint64_t behind) {
  const uint64_t name = fields().backing_file_offset.value();
  const uint64_t length = fields().backing_file_size.value();
  const uint64_t moved = AlignUp(std::max(behind, name + length), uint64_t{8});
  if (name + length > bytes().size() || moved + length > bytes().size()) {
    co_return NoRoom(metadata_);
  }
  const std::vector<std::byte> copy(bytes().begin() + static_cast<ptrdiff_t>(name),
                                    bytes().begin() + static_cast<ptrdiff_t>(name + length));
  // A damaged header may say where a name is that has no bytes.
  if (!copy.empty()) {
    Put(moved, copy);
    CO_RETURN_IF_ERROR(co_await Flush());
  }
  fields().backing_file_offset = Be64(moved);
  metadata_.StoreHeader();
  co_return co_await Flush();
}

Task<absl::StatusOr<uint64_t>> HeaderCluster::MakeRoom() {
  const std::optional<ExtensionPlace> end = Find(kExtensionEnd);
  if (!end.has_value()) co_return NoRoom(metadata_);
  const uint64_t needed = end->begin + kMarkBytes + kPayloadBytes + kMarkBytes;
  if (needed > bytes().size()) co_return NoRoom(metadata_);
  if (needed > list_end()) CO_RETURN_IF_ERROR(co_await MoveBackingName(needed));
  co_return end->begin;
}

// The payload and a new end of the list first, behind the old end.
Task<absl::Status> Append(HeaderCluster& header, std::span<const std::byte> payload) {
  CO_ASSIGN_OR_RETURN(const uint64_t place, co_await header.MakeRoom());
  if (header.is_valid()) CO_RETURN_IF_ERROR(co_await header.SetValid(false));
  std::vector<std::byte> behind(payload.begin(), payload.end());
  behind.resize(kPayloadBytes + kMarkBytes);
  header.Put(place + kMarkBytes, behind);
  CO_RETURN_IF_ERROR(co_await header.Flush());
  std::byte mark[kMarkBytes];
  StoreBe64At(mark, 0, uint64_t{kExtensionBitmaps} << 32 | kPayloadBytes);
  header.Put(place, mark);
  co_return co_await header.SetValid(true);
}

Task<absl::Status> Change(HeaderCluster& header, ExtensionPlace place,
                          std::span<const std::byte> payload) {
  const bool in_one_sector =
      place.payload / kSectorBytes == (place.payload + kPayloadBytes - 1) / kSectorBytes;
  const bool at_once = in_one_sector && header.is_valid();
  if (header.is_valid() && !at_once) CO_RETURN_IF_ERROR(co_await header.SetValid(false));
  header.Put(place.payload, payload);
  CO_RETURN_IF_ERROR(co_await header.Flush());
  co_return at_once ? absl::OkStatus() : co_await header.SetValid(true);
}

// Where others follow it stays in the list, and does not count.
Task<absl::Status> Remove(HeaderCluster& header, Metadata& metadata) {
  const std::optional<ExtensionPlace> place = header.Find(kExtensionBitmaps);
  const std::optional<ExtensionPlace> end = header.Find(kExtensionEnd);
  if (place.has_value() && end.has_value() && end->begin == place->end) {
    header.Put(place->begin, std::vector<std::byte>(kMarkBytes));
    metadata.header.extensions.bitmaps.reset();
  }
  co_return co_await header.SetValid(false);
}

}  // namespace

Task<absl::Status> StoreBitmapsExtension(Metadata& metadata,
                                         std::optional<BitmapsExtension> extension) {
  HeaderCluster header(metadata);
  if (!extension.has_value()) co_return co_await Remove(header, metadata);
  const std::vector<std::byte> payload = SerializeBitmapsExtension(*extension);
  const std::optional<ExtensionPlace> place = header.Find(kExtensionBitmaps);
  if (place.has_value()) {
    CO_RETURN_IF_ERROR(co_await Change(header, *place, payload));
  } else {
    CO_RETURN_IF_ERROR(co_await Append(header, payload));
  }
  metadata.header.extensions.bitmaps = payload;
  co_return absl::OkStatus();
}

}  // namespace ringcow
