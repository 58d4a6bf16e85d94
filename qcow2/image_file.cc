#include "qcow2/image_file.h"

#include <algorithm>
#include <optional>
#include <span>

#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "qcow2/foreign.h"
#include "qcow2/reworded.h"

namespace ringcow {
namespace {

Task<absl::StatusOr<std::string>> ProbeDisk(Disk& disk) {
  const AlignedBuffer buffer(kBufferAlignment);
  const std::span<std::byte> beginning =
      buffer.span().first(std::min<uint64_t>(kProbeBytes, disk.size()));
  // Whole blocks, so that O_DIRECT needs no bounce; what lies beyond the end reads as zeroes.
  CO_RETURN_IF_ERROR(co_await disk.Read(HostOffset(0), buffer.span(), Content::kOther));
  co_return std::string(ProbeFormat(beginning));
}

}  // namespace

absl::Status WithoutName(const absl::Status& status, const Disk& disk) {
  const std::string message(status.message());
  return Reworded(status, absl::StripPrefix(message, absl::StrFormat("'%s': ", disk.name())));
}

Task<absl::StatusOr<ImageFile>> ImageFile::Open(Rings& rings, std::string name,
                                                ImageFileOptions options) {
  CO_ASSIGN_OR_RETURN(ImageSource source, SourceOf(name, options.format));
  co_return co_await Open(rings, std::move(source), std::move(options));
}

Task<absl::StatusOr<ImageFile>> ImageFile::Open(Rings& rings, ImageSource source,
                                                ImageFileOptions options) {
  std::optional<ImageFormat> format = FormatByName(source.format);
  if (!format.has_value() && !source.format.empty()) {
    co_return UnknownDriver(source.format);
  }
  ImageDescription described = std::move(source.options);
  CO_ASSIGN_OR_RETURN(HostFile host,
                      co_await HostFile::Open(rings, std::move(source), std::move(options)));
  const bool is_guess = !format.has_value();
  if (is_guess) {
    CO_ASSIGN_OR_RETURN(const std::string probed, co_await ProbeDisk(host.disk()));
    format = FormatByName(probed);
    if (!format.has_value()) {
      co_return AsForeign(absl::UnimplementedError(
          absl::StrFormat("Image format '%s' is not supported, only qcow2 and raw are", probed)));
    }
  }
  CO_ASSIGN_OR_RETURN(FormatOptions format_options,
                      TakeFormatOptions(std::move(described), *format));
  CO_RETURN_IF_ERROR(format_options.raw_window.Check(host.disk().size()));
  co_return ImageFile(std::move(host), *format, is_guess && *format == ImageFormat::kRaw,
                      std::move(format_options));
}

std::string ImageFile::driver() const {
  const std::string& uppermost = host_.source().driver;
  return uppermost.empty() ? std::string(FormatName(format_)) : uppermost;
}

}  // namespace ringcow
