#include "cli/target.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "cli/guessed_raw.h"
#include "engine/status_macros.h"
#include "qcow2/image.h"
#include "qcow2/raw_image.h"

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

Task<absl::StatusOr<std::unique_ptr<GuestDisk>>> OpenGuest(const ImageFile& file,
                                                           const TargetOptions& options) {
  if (file.format() == ImageFormat::kRaw) {
    auto raw = std::make_unique<RawImage>(file.disk(), options.read_only);
    if (!file.guessed_raw() || options.read_only) co_return raw;
    co_return std::make_unique<GuessedRaw>(std::move(raw));
  }
  OpenOptions open_options;
  open_options.read_only = options.read_only;
  if (options.cache.writethrough) open_options.write_back.mode = CacheMode::kWritethrough;
  absl::StatusOr<std::unique_ptr<Image>> image = co_await Image::Open(file.disk(), open_options);
  if (!image.ok()) co_return WithoutName(image.status(), file.disk());
  co_return *std::move(image);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Host>> Host::Create() {
  auto host = std::make_unique<Host>();
  ASSIGN_OR_RETURN(host->rings, Rings::Create(host->loop));
  return host;
}

absl::StatusOr<std::string> LocalPath(absl::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("A file name must not be empty");
  const size_t colon = name.find(':');
  // A slash before the colon makes it part of a path: "./a:b".
  if (colon == absl::string_view::npos || name.find('/') < colon) return std::string(name);
  if (absl::ConsumePrefix(&name, "file:")) return std::string(name);
  return absl::InvalidArgumentError(
      absl::StrFormat("Unknown protocol '%s'", name.substr(0, colon)));
}

absl::Status WithoutName(const absl::Status& status, const Disk& disk) {
  const std::string message(status.message());
  return absl::Status(status.code(),
                      absl::StripPrefix(message, absl::StrFormat("'%s': ", disk.name())));
}

Task<absl::StatusOr<ImageFile>> ImageFile::Open(Host& host, std::string name,
                                                TargetOptions options) {
  if (options.force_share && !options.read_only) {
    co_return absl::InvalidArgumentError("force-share=on can only be used with read-only images");
  }
  std::optional<ImageFormat> format = FormatByName(options.format);
  if (!format.has_value() && !options.format.empty()) {
    co_return absl::InvalidArgumentError(absl::StrFormat("Unknown driver '%s'", options.format));
  }
  CO_ASSIGN_OR_RETURN(const std::string path, LocalPath(name));
  CO_ASSIGN_OR_RETURN(std::unique_ptr<UringDisk> disk,
                      UringDisk::Open(*host.rings, path,
                                      {.read_only = options.read_only,
                                       .direct = options.cache.direct,
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

Task<absl::StatusOr<Target>> Target::Open(Host& host, std::string name, TargetOptions options) {
  CO_ASSIGN_OR_RETURN(ImageFile file, co_await ImageFile::Open(host, std::move(name), options));
  CO_ASSIGN_OR_RETURN(std::unique_ptr<GuestDisk> guest, co_await OpenGuest(file, options));
  co_return Target(std::move(file), ApplyCachePolicy(options.cache, std::move(guest)));
}

}  // namespace ringcow
