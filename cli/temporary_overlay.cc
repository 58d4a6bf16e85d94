#include "cli/temporary_overlay.h"

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/new_image.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/format/image_format.h"

namespace ringcow {
namespace {

// A new, empty file.
absl::StatusOr<std::string> MakeTemporaryFile() {
  const char* const directory = std::getenv("TMPDIR");
  std::string path = directory == nullptr ? "/var/tmp" : directory;
  path += "/ringcow.XXXXXX";
  const int fd = mkstemp(path.data());
  if (fd < 0) return ErrnoStatus(errno, "Could not create a temporary file");
  (void)close(fd);
  return path;
}

Task<absl::StatusOr<uint64_t>> SizeOf(Host& host, std::string name, TargetOptions options) {
  options.read_only = true;
  CO_ASSIGN_OR_RETURN(const Target image, co_await Target::Open(host, std::move(name), options));
  co_return image.guest().size();
}

}  // namespace

Task<absl::StatusOr<Target>> OpenTemporaryOverlay(Host& host, std::string name,
                                                  TargetOptions options) {
  CreateOptions create;
  CO_ASSIGN_OR_RETURN(create.virtual_size, co_await SizeOf(host, name, options));
  CO_ASSIGN_OR_RETURN(const ImageDescription image, DescriptionOfTarget(name, options));
  CO_ASSIGN_OR_RETURN(const std::string path, MakeTemporaryFile());
  const absl::Status created = co_await CreateImageFile(host, path, ImageFormat::kQcow2, create);
  if (!created.ok()) {
    (void)unlink(path.c_str());
    co_return created;
  }
  options.image_options = false;
  options.driver_options.clear();
  for (const auto& [option, value] : image.options()) {
    options.driver_options[absl::StrCat("backing.", option)] = value;
  }
  // Nobody needs it after a crash.
  options.format = "qcow2";
  options.cache = {.no_flush = true};
  absl::StatusOr<Target> target = co_await Target::Open(host, path, options);
  (void)unlink(path.c_str());
  co_return target;
}

}  // namespace ringcow
