#include "cli/copy_bitmaps.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/format/bitmap_directory.h"
#include "qcow2/image.h"

namespace ringcow {
namespace {

absl::Status While(const char* what, const std::string& name, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrFormat("Failed to %s bitmap %s: %s", what, name, MessageOf(status)));
}

Task<absl::Status> CopyBitmap(Image& source, Image& target, BitmapDirectoryEntry bitmap) {
  CO_RETURN_IF_ERROR(
      While("create", bitmap.name,
            co_await target.AddBitmap(bitmap.name, uint64_t{1} << bitmap.granularity_bits,
                                      bitmap.automatic)));
  const absl::StatusOr<DirtyBitmap> bits = co_await source.ReadBitmap(bitmap.name);
  absl::Status status = bits.status();
  if (status.ok()) status = co_await target.MergeBitmap(bitmap.name, *bits);
  co_return While("populate", bitmap.name, status);
}

}  // namespace

bool CanHaveBitmaps(const ImageChain& chain) {
  return chain.image() != nullptr && chain.image()->header().version >= 3;
}

Task<absl::Status> CheckBitmaps(const ImageChain& source, BrokenBitmaps broken) {
  if (!CanHaveBitmaps(source)) {
    co_return absl::InvalidArgumentError("Source lacks bitmap support");
  }
  CO_ASSIGN_OR_RETURN(const std::vector<BitmapDirectoryEntry> bitmaps,
                      co_await source.image()->ListBitmaps());
  for (const BitmapDirectoryEntry& bitmap : bitmaps) {
    if (bitmap.usable() || broken == BrokenBitmaps::kSkip) continue;
    co_return absl::FailedPreconditionError(
        absl::StrFormat("Cannot copy inconsistent bitmap '%s'\n"
                        "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it",
                        bitmap.name));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CopyBitmaps(const Program& program, const ImageChain& source,
                               const ImageChain& target) {
  CO_ASSIGN_OR_RETURN(const std::vector<BitmapDirectoryEntry> bitmaps,
                      co_await source.image()->ListBitmaps());
  for (const BitmapDirectoryEntry& bitmap : bitmaps) {
    if (!bitmap.usable()) {
      program.Error(absl::StrCat("warning: Skipping inconsistent bitmap '", bitmap.name, "'"));
      continue;
    }
    CO_RETURN_IF_ERROR(co_await CopyBitmap(*source.image(), *target.image(), bitmap));
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
