#include "qcow2/image_file.h"

#include <algorithm>
#include <optional>
#include <span>

#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "qcow2/backing_name.h"

namespace ringcow {
namespace {

Task<absl::StatusOr<std::string>> ProbeDisk(Disk& disk) {
  const AlignedBuffer buffer(kBufferAlignment);
  const std::span<std::byte> beginning =
      buffer.span().first(std::min<uint64_t>(kProbeBytes, disk.size()));
  // Whole blocks, so that O_DIRECT needs no bounce; what lies beyond the end reads as zeroes.
  CO_RETURN_IF_ERROR(co_await disk.Read(HostOffset(0), buffer.span()));
  co_return std::string(ProbeFormat(beginning));
}

}  // namespace

absl::Status WithoutName(const absl::Status& status, const Disk& disk) {
  const std::string message(status.message());
  absl::Status plain(status.code(),
                     absl::StripPrefix(message, absl::StrFormat("'%s': ", disk.name())));
  // The errno, if one is attached.
  status.ForEachPayload([&plain](absl::string_view url, const absl::Cord& payload) {
    plain.SetPayload(url, payload);
  });
  return plain;
}

Task<absl::StatusOr<ImageFile>> ImageFile::Open(Rings& rings, std::string name,
                                                ImageFileOptions options) {
  if (options.force_share && !options.read_only) {
    co_return absl::InvalidArgumentError("force-share=on can only be used with read-only images");
  }
  std::optional<ImageFormat> format = FormatByName(options.format);
  if (!format.has_value() && !options.format.empty()) {
    co_return absl::InvalidArgumentError(absl::StrFormat("Unknown driver '%s'", options.format));
  }
  CO_ASSIGN_OR_RETURN(const std::string path, LocalPath(name));
  CO_ASSIGN_OR_RETURN(std::unique_ptr<UringDisk> disk,
                      UringDisk::Open(rings, path,
                                      {.read_only = options.read_only,
                                       .direct = options.direct,
                                       .force_share = options.force_share}));
  if (format.has_value()) co_return ImageFile(std::move(disk), *format, false);

  CO_ASSIGN_OR_RETURN(const std::string probed, co_await ProbeDisk(*disk));
  format = FormatByName(probed);
  if (!format.has_value()) {
    co_return absl::UnimplementedError(
        absl::StrFormat("Image format '%s' is not supported, only qcow2 and raw are", probed));
  }
  co_return ImageFile(std::move(disk), *format, *format == ImageFormat::kRaw);
}

}  // namespace ringcow
