#include "cli/new_image.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "engine/uring_disk.h"
#include "qcow2/create.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

// `length` bytes of zeroes, written, at the beginning of `disk`.
Task<absl::Status> WriteZeroBytes(Disk& disk, uint64_t length) {
  constexpr uint64_t kChunk = 1 << 20;
  const AlignedBuffer zeroes(kChunk);
  std::memset(zeroes.data(), 0, zeroes.size());
  for (uint64_t at = 0; at < length; at += kChunk) {
    CO_RETURN_IF_ERROR(co_await disk.Write(
        HostOffset(at), zeroes.span().first(std::min<uint64_t>(kChunk, length - at))));
  }
  co_return absl::OkStatus();
}

// A device has its size and its space. Only its first sector is cleared, so that it is not taken
// for what was on it before.
Task<absl::Status> CreateRawOnDevice(Disk& disk, uint64_t size, Preallocation preallocation) {
  if (size > disk.size()) co_return absl::OutOfRangeError("Cannot grow device files");
  if (preallocation != Preallocation::kOff) {
    co_return absl::InvalidArgumentError("Preallocation is for files, not for devices");
  }
  CO_RETURN_IF_ERROR(co_await WriteZeroBytes(disk, std::min(size, kSectorBytes)));
  co_return co_await disk.Fdatasync();
}

Task<absl::Status> CreateRaw(UringDisk& disk, uint64_t size, Preallocation preallocation) {
  size = AlignUp(size, kSectorBytes);
  struct stat info{};
  if (fstat(disk.fd(), &info) == 0 && S_ISBLK(info.st_mode)) {
    co_return co_await CreateRawOnDevice(disk, size, preallocation);
  }
  CO_RETURN_IF_ERROR(co_await disk.Truncate(0));
  CO_RETURN_IF_ERROR(co_await disk.Truncate(size));
  if (preallocation == Preallocation::kFalloc && size > 0) {
    CO_RETURN_IF_ERROR(co_await disk.Allocate(HostOffset(0), size));
  }
  if (preallocation == Preallocation::kFull) {
    CO_RETURN_IF_ERROR(co_await WriteZeroBytes(disk, size));
  }
  co_return co_await disk.Fdatasync();
}

// What QEMU refuses only behind "Formatting ...".
absl::Status CheckBackingOptions(const CreateOptions& options) {
  if (!options.backing_format.empty() && !FormatByName(options.backing_format).has_value()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "Parameter 'backing-fmt' does not accept value '%s'", options.backing_format));
  }
  if (options.backing_file.empty()) {
    if (options.backing_format.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("Backing format cannot be used without backing file");
  }
  if (options.preallocation == Preallocation::kOff || options.extended_l2) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "Backing file and preallocation can only be used at the same time if extended_l2 is on");
}

// Leaves nothing of a failed creation: a new file goes, one that was there before is emptied.
void CleanUp(UringDisk& disk, bool was_new) {
  (void)(was_new ? unlink(disk.name().c_str()) : ftruncate(disk.fd(), 0));
}

}  // namespace

absl::StatusOr<CreateOptions> CreateOptionsOf(ImageFormat format,
                                              const CreateOptionValues& values) {
  CreateOptions options;
  options.virtual_size = values.Number("size");
  const std::string preallocation =
      values.Has("preallocation") ? values.Text("preallocation") : "off";
  const absl::StatusOr<Preallocation> parsed = ParsePreallocation(preallocation);
  if (format == ImageFormat::kRaw) {
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("invalid parameter value: ", preallocation));
    }
    if (*parsed == Preallocation::kMetadata) {
      return absl::InvalidArgumentError("Unsupported preallocation mode: metadata");
    }
    options.preallocation = *parsed;
    return options;
  }
  RETURN_IF_ERROR(parsed.status());
  options.preallocation = *parsed;
  if (values.Has("compat")) {
    ASSIGN_OR_RETURN(options.version, ParseCompat(values.Text("compat")));
  }
  ASSIGN_OR_RETURN(options.compression_type, ParseCompressionType(values.Text("compression_type")));
  options.cluster_size = values.Number("cluster_size");
  options.refcount_bits = values.Number("refcount_bits");
  options.lazy_refcounts = values.Flag("lazy_refcounts");
  options.extended_l2 = values.Flag("extended_l2");
  if (values.Has("backing_file")) options.backing_file = values.Text("backing_file");
  if (values.Has("backing_fmt")) options.backing_format = values.Text("backing_fmt");
  RETURN_IF_ERROR(CheckBackingOptions(options));
  // Before there is a file to be left behind.
  RETURN_IF_ERROR(ValidateCreateOptions(options).status());
  return options;
}

Task<absl::Status> CreateImageFile(Host& host, std::string path, ImageFormat format,
                                   CreateOptions options) {
  UringDisk::Options disk_options = {.creation = UringDisk::Creation::kExclusive};
  absl::StatusOr<std::unique_ptr<UringDisk>> disk =
      UringDisk::Open(*host.rings, path, disk_options);
  const bool was_new = disk.ok();
  if (absl::IsAlreadyExists(disk.status())) {
    disk_options.creation = UringDisk::Creation::kIfMissing;
    disk = UringDisk::Open(*host.rings, path, disk_options);
  }
  CO_RETURN_IF_ERROR(disk.status());

  absl::Status status;
  if (format == ImageFormat::kQcow2) {
    status = co_await CreateImage(**disk, options);
  } else {
    status = co_await CreateRaw(**disk, options.virtual_size, options.preallocation);
  }
  if (!status.ok()) CleanUp(**disk, was_new);
  co_return status;
}

}  // namespace ringcow
