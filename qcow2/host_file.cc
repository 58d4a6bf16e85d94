#include "qcow2/host_file.h"

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"

namespace ringcow {

absl::StatusOr<HostFile> HostFile::Open(Rings& rings, const ImageSource& source,
                                        UringDisk::Options options) {
  if (source.read_only && !options.read_only) {
    return absl::PermissionDeniedError("Block node is read-only");
  }
  options.force_share |= source.force_share;
  if (options.force_share && !options.read_only) {
    return absl::InvalidArgumentError("force-share=on can only be used with read-only images");
  }
  options.direct = source.direct.value_or(options.direct);
  options.force_share |= source.unlocked;
  ASSIGN_OR_RETURN(std::unique_ptr<UringDisk> file, UringDisk::Open(rings, source.path, options));
  std::unique_ptr<BlkdebugDisk> blkdebug;
  if (source.blkdebug.has_value()) {
    ASSIGN_OR_RETURN(blkdebug, BlkdebugDisk::Open(*file, *source.blkdebug));
  }
  return HostFile(std::move(file), std::move(blkdebug));
}

std::string HostFile::name() const {
  if (blkdebug_ == nullptr || !blkdebug_->options().given.empty()) return file_->name();
  return absl::StrFormat("blkdebug:%s:%s", blkdebug_->options().config, file_->name());
}

}  // namespace ringcow
