#include "qcow2/copy_source.h"

#include <algorithm>

#include "engine/status_macros.h"
#include "qcow2/chain_extent.h"

namespace ringcow {

uint64_t CopySource::size() const {
  uint64_t bytes = 0;
  for (const ImageChain* image : images_) bytes += image->size();
  return bytes;
}

CopySource::Place CopySource::PlaceOf(uint64_t offset) const {
  auto image = images_.begin();
  for (; offset >= (*image)->size(); ++image) offset -= (*image)->size();
  return {*image, offset};
}

Task<absl::StatusOr<CopyPiece>> CopySource::Find(uint64_t offset, uint64_t length) const {
  const Place place = PlaceOf(offset);
  length = std::min(length, place.image->size() - place.offset);
  if (layers_ > 0) co_return co_await FindInLayers(place, length);
  CO_ASSIGN_OR_RETURN(const ChainExtent found,
                      co_await FindInChain(*place.image, GuestOffset(place.offset), length));
  const GuestExtent& extent = found.extent;
  co_return CopyPiece{extent.zero ? CopyPiece::Kind::kZero : CopyPiece::Kind::kData, extent.bytes};
}

Task<absl::StatusOr<CopyPiece>> CopySource::FindInLayers(Place place, uint64_t length) const {
  const bool is_behind = place.offset >= backing_bytes_;
  if (!is_behind) length = std::min(length, backing_bytes_ - place.offset);
  for (size_t depth = 0; depth < layers_; ++depth) {
    GuestDisk& layer = *place.image->layers()[depth].guest;
    length = std::min(length, layer.size() - place.offset);
    CO_ASSIGN_OR_RETURN(const GuestExtent extent,
                        co_await layer.Find(GuestOffset(place.offset), length));
    length = extent.bytes;
    if (extent.zero) {
      co_return CopyPiece{is_behind ? CopyPiece::Kind::kBacking : CopyPiece::Kind::kZero, length};
    }
    if (extent.allocated) co_return CopyPiece{CopyPiece::Kind::kData, length};
  }
  co_return CopyPiece{CopyPiece::Kind::kBacking, length};
}

Task<absl::Status> CopySource::Read(uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const Place place = PlaceOf(offset);
    const size_t bytes = std::min<uint64_t>(into.size(), place.image->size() - place.offset);
    GuestDisk& disk = *place.image->layers().front().guest;
    CO_RETURN_IF_ERROR(co_await disk.Read(GuestOffset(place.offset), into.first(bytes)));
    offset += bytes;
    into = into.subspan(bytes);
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
