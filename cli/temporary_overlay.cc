#include "cli/temporary_overlay.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

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

// What an overlay of the image has to know of it.
Task<absl::StatusOr<CreateOptions>> OverlayOptions(Host& host, std::string name,
                                                   TargetOptions options) {
  options.read_only = true;
  CO_ASSIGN_OR_RETURN(const Target image, co_await Target::Open(host, std::move(name), options));
  if (image.chain().blkdebug() != nullptr) {
    co_return absl::UnimplementedError("A temporary overlay of a blkdebug is not supported yet");
  }
  const std::string& path = image.file().disk().name();
  char* const absolute = realpath(path.c_str(), nullptr);
  if (absolute == nullptr) co_return ErrnoStatus(errno, path);
  CreateOptions create;
  create.virtual_size = image.guest().size();
  create.backing_file = absolute;
  create.backing_format = std::string(FormatName(image.file().format()));
  std::free(absolute);
  co_return create;
}

}  // namespace

Task<absl::StatusOr<Target>> OpenTemporaryOverlay(Host& host, std::string name,
                                                  TargetOptions options) {
  CO_ASSIGN_OR_RETURN(const CreateOptions create, co_await OverlayOptions(host, name, options));
  CO_ASSIGN_OR_RETURN(const std::string path, MakeTemporaryFile());
  const absl::Status created = co_await CreateImageFile(host, path, ImageFormat::kQcow2, create);
  if (!created.ok()) {
    (void)unlink(path.c_str());
    co_return created;
  }
  // Nobody needs it after a crash.
  options.format = "qcow2";
  options.cache = {.no_flush = true};
  absl::StatusOr<Target> target = co_await Target::Open(host, path, options);
  (void)unlink(path.c_str());
  co_return target;
}

}  // namespace ringcow
