#include "qcow2/open.h"

#include <optional>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/unsupported.h"
#include "qcow2/read_header.h"
#include "qcow2/read_snapshots.h"
#include "qcow2/repair.h"

namespace ringcow {
namespace {

// The raw file would not read as the guest does.
absl::Status CheckRawDataFile(const Header& header) {
  if (!header.raw_external_data() || header.backing_file.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "Backing file and data-file-raw cannot be used at the same time");
}

absl::Status CheckWritable(const Header& header) {
  if (header.corrupt()) {
    return absl::FailedPreconditionError("qcow2: Image is corrupt; cannot be opened read/write");
  }
  return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<CheckedHeader>> ReadAndCheckHeader(Disk& disk, bool read_only) {
  absl::StatusOr<Header> header = co_await ReadHeader(disk);
  CO_RETURN_IF_ERROR(Named(disk, header.status()));
  CO_RETURN_IF_ERROR(Named(disk, CheckSupported(*header)));
  CO_RETURN_IF_ERROR(Named(disk, CheckRawDataFile(*header)));
  if (!read_only) CO_RETURN_IF_ERROR(Named(disk, CheckWritable(*header)));
  if (!read_only && header->dirty()) {
    CO_RETURN_IF_ERROR(co_await RepairDirtyImage(disk));
    header = co_await ReadHeader(disk);
    CO_RETURN_IF_ERROR(Named(disk, header.status()));
  }
  CO_ASSIGN_OR_RETURN(const Geometry geometry, GeometryOf(*header));
  co_return CheckedHeader{*header, geometry};
}

Task<absl::Status> GoToSnapshot(Disk& disk, const SnapshotChoice& choice, CheckedHeader& read) {
  CO_ASSIGN_OR_RETURN(const std::vector<Snapshot> snapshots,
                      co_await ReadSnapshots(disk, read.header));
  const std::optional<size_t> index = FindSnapshot(snapshots, choice);
  if (!index.has_value()) co_return Named(disk, absl::NotFoundError("Can't find snapshot"));
  const Snapshot& snapshot = snapshots[*index];
  CO_RETURN_IF_ERROR(Named(disk, ValidateSnapshotL1Table(snapshot, read.geometry)));
  CO_ASSIGN_OR_RETURN(read.geometry,
                      read.geometry.Resized(AlignDown(
                          snapshot.virtual_size.value_or(read.header.virtual_size), kSectorBytes)));
  if (snapshot.l1_entries < read.geometry.l1_entries()) {
    co_return Named(disk, absl::InvalidArgumentError(absl::StrFormat(
                              "Snapshot '%s' has an L1 table that is too small", snapshot.name)));
  }
  read.header.virtual_size = read.geometry.virtual_size();
  read.header.l1_table_offset = snapshot.l1_table_offset;
  read.header.l1_entries = snapshot.l1_entries;
  co_return absl::OkStatus();
}

Task<absl::Status> ClearAutoclearFeatures(Metadata& metadata) {
  uint64_t kept = metadata.header.autoclear_features & kMaintainedAutoclearFeatures;
  // A bit that vouches for nothing.
  if (!metadata.header.extensions.bitmaps.has_value()) kept &= ~kAutoclearBitmaps;
  if (kept == metadata.header.autoclear_features) co_return absl::OkStatus();
  metadata.header.autoclear_features = kept;
  metadata.StoreHeader();
  co_return co_await metadata.write_back.Flush();
}

}  // namespace ringcow
