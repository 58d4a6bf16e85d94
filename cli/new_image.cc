#include "cli/new_image.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "engine/uring_disk.h"
#include "engine/zeroes.h"
#include "qcow2/backing_name.h"
#include "qcow2/create.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

// A device has its size and its space. Only its first sector is cleared, so that it is not taken
// for what was on it before.
Task<absl::Status> CreateRawOnDevice(Disk& disk, uint64_t size, Preallocation preallocation) {
  if (size > disk.size()) co_return absl::OutOfRangeError("Cannot grow device files");
  if (preallocation != Preallocation::kOff) {
    co_return absl::InvalidArgumentError("Preallocation is for files, not for devices");
  }
  if (size == 0) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(co_await WriteZeroBytes(disk, HostOffset(0), std::min(size, kSectorBytes)));
  co_return co_await disk.Fdatasync();
}

Task<absl::Status> CreateRaw(UringDisk& disk, uint64_t size, Preallocation preallocation) {
  size = AlignUp(size, kSectorBytes);
  if (disk.is_device()) {
    co_return co_await CreateRawOnDevice(disk, size, preallocation);
  }
  CO_RETURN_IF_ERROR(co_await disk.Truncate(0));
  CO_RETURN_IF_ERROR(co_await disk.Truncate(size));
  if (preallocation == Preallocation::kFalloc && size > 0) {
    CO_RETURN_IF_ERROR(co_await disk.Allocate(HostOffset(0), size));
  }
  if (preallocation == Preallocation::kFull) {
    CO_RETURN_IF_ERROR(co_await WriteZeroBytes(disk, HostOffset(0), size));
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

// A file that is new, or was there before.
struct NewFile {
  std::unique_ptr<UringDisk> disk;
  bool was_new = false;
};

absl::StatusOr<NewFile> OpenNew(Host& host, const std::string& path) {
  UringDisk::Options options = {.creation = UringDisk::Creation::kExclusive};
  absl::StatusOr<std::unique_ptr<UringDisk>> disk = UringDisk::Open(*host.rings, path, options);
  const bool was_new = disk.ok();
  if (absl::IsAlreadyExists(disk.status())) {
    options.creation = UringDisk::Creation::kIfMissing;
    disk = UringDisk::Open(*host.rings, path, options);
  }
  RETURN_IF_ERROR(disk.status());
  return NewFile{*std::move(disk), was_new};
}

Task<absl::Status> SetAttributes(UringDisk& disk, const FileAttributes& attributes) {
  if (!attributes.any() || disk.is_device()) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(co_await disk.Truncate(0));
  SetFileAttributes(disk.fd(), attributes);
  co_return absl::OkStatus();
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
  if (values.Has("data_file")) {
    const std::string& name = values.Text("data_file");
    if (name.empty()) return absl::NotFoundError("Could not create '': No such file or directory");
    ASSIGN_OR_RETURN(options.data_file, LocalPath(name));
  }
  if (values.Has("data_file_raw")) options.data_file_raw = values.Flag("data_file_raw");
  RETURN_IF_ERROR(CheckBackingOptions(options));
  // Before there is a file to be left behind.
  RETURN_IF_ERROR(ValidateCreateOptions(options).status());
  return options;
}

Task<absl::Status> CreateImageFile(Host& host, std::string path, ImageFormat format,
                                   CreateOptions options, FileAttributes attributes) {
  NewFile data_file;
  absl::Status status;
  if (!options.data_file.empty()) {
    CO_ASSIGN_OR_RETURN(data_file, OpenNew(host, options.data_file));
    status = co_await SetAttributes(*data_file.disk, attributes);
  }
  absl::StatusOr<NewFile> file = OpenNew(host, path);
  status.Update(file.status());
  if (status.ok()) status = co_await SetAttributes(*file->disk, attributes);
  if (status.ok()) {
    status = format == ImageFormat::kQcow2
                 ? co_await CreateImage(*file->disk, options, data_file.disk.get())
                 : co_await CreateRaw(*file->disk, options.virtual_size, options.preallocation);
  }
  if (status.ok()) co_return status;
  if (file.ok()) CleanUp(*file->disk, file->was_new);
  if (data_file.was_new) CleanUp(*data_file.disk, true);
  co_return status;
}

}  // namespace ringcow
