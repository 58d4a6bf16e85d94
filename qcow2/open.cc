#include "qcow2/open.h"

#include "engine/status_macros.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/unsupported.h"
#include "qcow2/read_header.h"
#include "qcow2/repair.h"

namespace ringcow {
namespace {

absl::Status CheckWritable(const Header& header) {
  if (header.corrupt()) {
    return absl::FailedPreconditionError("Image is corrupt; cannot be opened read/write");
  }
  return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<CheckedHeader>> ReadAndCheckHeader(Disk& disk, bool read_only) {
  absl::StatusOr<Header> header = co_await ReadHeader(disk);
  CO_RETURN_IF_ERROR(Named(disk, header.status()));
  CO_RETURN_IF_ERROR(Named(disk, CheckSupported(*header)));
  if (!read_only) CO_RETURN_IF_ERROR(Named(disk, CheckWritable(*header)));
  if (!read_only && header->dirty()) {
    CO_RETURN_IF_ERROR(co_await RepairDirtyImage(disk));
    header = co_await ReadHeader(disk);
    CO_RETURN_IF_ERROR(Named(disk, header.status()));
  }
  CO_ASSIGN_OR_RETURN(const Geometry geometry, GeometryOf(*header));
  co_return CheckedHeader{*header, geometry};
}

Task<absl::Status> ClearAutoclearFeatures(Metadata& metadata) {
  const uint64_t kept = metadata.header.autoclear_features & kMaintainedAutoclearFeatures;
  if (kept == metadata.header.autoclear_features) co_return absl::OkStatus();
  metadata.header.autoclear_features = kept;
  metadata.StoreHeader();
  co_return co_await metadata.write_back.Flush();
}

}  // namespace ringcow
