#include "qcow2/host_file.h"

#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/image_chain.h"
#include "qcow2/reworded.h"

namespace ringcow {
namespace {

FileKind KindFor(const std::string& driver) {
  if (driver == "file") return FileKind::kRegular;
  if (driver == "host_device") return FileKind::kDevice;
  return driver == "host_cdrom" ? FileKind::kCdrom : FileKind::kAny;
}

}  // namespace

HostFile::HostFile(ImageSource source) : source_(std::move(source)) {}
HostFile::HostFile(HostFile&& other) noexcept = default;
HostFile& HostFile::operator=(HostFile&& other) noexcept = default;
HostFile::~HostFile() = default;

Task<absl::StatusOr<HostFile>> HostFile::Open(Rings& rings, ImageSource source,
                                              ImageFileOptions options) {
  if (source.read_only && !options.read_only) {
    co_return absl::PermissionDeniedError("Block node is read-only");
  }
  options.force_share |= source.force_share;
  if (options.force_share && !options.read_only) {
    co_return absl::InvalidArgumentError("force-share=on can only be used with read-only images");
  }
  if (++*options.opened > kMaxFiles) {
    co_return absl::InvalidArgumentError(
        absl::StrFormat("The image consists of more than %d files", kMaxFiles));
  }
  options.direct = source.direct.value_or(options.direct);
  HostFile host(std::move(source));
  CO_RETURN_IF_ERROR(co_await host.OpenBottom(rings, std::move(options)));
  for (const DiskDriver& driver : host.source_.below) CO_RETURN_IF_ERROR(host.PutAbove(driver));
  co_return host;
}

Task<absl::Status> HostFile::OpenBottom(Rings& rings, ImageFileOptions options) {
  if (source_.image != nullptr) co_return co_await OpenImage(rings, options);
  if (source_.quorum.has_value()) co_return co_await OpenQuorum(rings, *source_.quorum, options);
  if (source_.nowhere.has_value()) {
    nowhere_ = std::make_unique<VoidDisk>(rings.loop(), *source_.nowhere);
    disk_ = nowhere_.get();
    co_return absl::OkStatus();
  }
  CO_ASSIGN_OR_RETURN(file_,
                      UringDisk::Open(rings, source_.path,
                                      {.kind = KindFor(source_.bottom),
                                       .read_only = options.read_only,
                                       .direct = options.direct,
                                       .force_share = options.force_share || source_.unlocked}));
  if (source_.bottom.empty()) source_.bottom = file_->is_device() ? "host_device" : "file";
  disk_ = file_.get();
  co_return absl::OkStatus();
}

Task<absl::Status> HostFile::OpenImage(Rings& rings, const ImageFileOptions& options) {
  ImageChainOptions chain{.file = options, .image = {}};
  chain.file.format.clear();
  chain.image.workers = options.workers;
  const std::string name = NameOf(source_);
  absl::StatusOr<std::unique_ptr<ImageChain>> image =
      co_await ImageChain::Open(rings, *source_.image, std::move(chain));
  if (!image.ok()) {
    const std::string message(image.status().message());
    if (absl::StartsWith(message, "Could not open")) co_return image.status();
    co_return Reworded(image.status(), absl::StrFormat("Could not open '%s': %s", name, message));
  }
  image_ = *std::move(image);
  image_as_disk_ =
      std::make_unique<GuestAsDisk>(rings.loop(), *image_, name, GuestAsDisk::BeyondEnd::kGrows);
  disk_ = image_as_disk_.get();
  co_return absl::OkStatus();
}

Task<absl::Status> HostFile::OpenQuorum(Rings& rings, const QuorumSource& quorum,
                                        const ImageFileOptions& options) {
  std::vector<Disk*> disks;
  for (const std::shared_ptr<const ImageSource>& source : quorum.children) {
    CO_ASSIGN_OR_RETURN(HostFile child, co_await Open(rings, *source, options));
    children_.push_back(std::make_unique<HostFile>(std::move(child)));
    disks.push_back(&children_.back()->disk());
  }
  CO_ASSIGN_OR_RETURN(quorum_, QuorumDisk::Open(std::move(disks), quorum.threshold));
  disk_ = quorum_.get();
  co_return absl::OkStatus();
}

absl::Status HostFile::PutAbove(const DiskDriver& driver) {
  if (const auto* const blkdebug = std::get_if<BlkdebugOptions>(&driver)) {
    ASSIGN_OR_RETURN(blkdebugs_.emplace_back(), BlkdebugDisk::Open(*disk_, *blkdebug));
    disk_ = blkdebugs_.back().get();
    return absl::OkStatus();
  }
  preallocating_.push_back(
      std::make_unique<PreallocatingDisk>(*disk_, std::get<PreallocationOptions>(driver)));
  disk_ = preallocating_.back().get();
  return absl::OkStatus();
}

UringDisk* HostFile::outermost_file() const {
  return image_ != nullptr ? image_->file().host().outermost_file() : file_.get();
}

std::string HostFile::path() const {
  const UringDisk* const file = outermost_file();
  return file != nullptr ? file->name() : "";
}

BlkdebugDisk* HostFile::blkdebug() const {
  if (!blkdebugs_.empty()) return blkdebugs_.back().get();
  return image_ != nullptr ? image_->blkdebug() : nullptr;
}

BlkdebugDisk* HostFile::events() const {
  const bool is_uppermost = !blkdebugs_.empty() && blkdebugs_.back().get() == disk_;
  return is_uppermost ? blkdebugs_.back().get() : nullptr;
}

Task<absl::Status> HostFile::Close() {
  absl::Status status;
  for (size_t i = preallocating_.size(); i-- > 0;) {
    status.Update(co_await preallocating_[i]->Close());
  }
  for (const std::unique_ptr<HostFile>& child : children_) {
    status.Update(co_await child->Close());
  }
  if (image_ == nullptr) co_return status;
  // What a request could tell by its errno only.
  status.Update(image_as_disk_->damage());
  status.Update(co_await image_->Close());
  co_return status;
}

}  // namespace ringcow
