#include "cli/target.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "cli/guessed_raw.h"
#include "cli/program.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

ImageFileOptions FileOptions(const TargetOptions& options) {
  return {.format = options.format,
          .read_only = options.read_only,
          .direct = options.cache.direct,
          .force_share = options.force_share};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Host>> Host::Create() {
  auto host = std::make_unique<Host>();
  ASSIGN_OR_RETURN(host->rings, Rings::Create(host->loop));
  ASSIGN_OR_RETURN(host->workers,
                   WorkerPool::Create(*host->rings, WorkerPool::ThreadsForThisMachine()));
  return host;
}

Task<absl::StatusOr<ImageFile>> OpenImageFile(Host& host, std::string name,
                                              const TargetOptions& options) {
  return ImageFile::Open(*host.rings, std::move(name), FileOptions(options));
}

Task<absl::StatusOr<Target>> Target::Open(Host& host, std::string name, TargetOptions options) {
  if (options.copy_on_read && options.read_only) {
    co_return absl::FailedPreconditionError("Can't use copy-on-read on read-only device");
  }
  ImageChainOptions chain_options = {.file = FileOptions(options), .image = {}};
  chain_options.image.copy_on_read = options.copy_on_read;
  chain_options.image.snapshot = options.snapshot;
  chain_options.also_writable = options.also_writable;
  chain_options.image.workers = host.workers.get();
  if (options.cache.writethrough) {
    chain_options.image.write_back.mode = CacheMode::kWritethrough;
  }
  CO_ASSIGN_OR_RETURN(
      std::unique_ptr<ImageChain> opened,
      co_await ImageChain::Open(*host.rings, std::move(name), std::move(chain_options)));
  const ImageChain* const chain = opened.get();
  std::unique_ptr<GuestDisk> guest = std::move(opened);
  if (chain->file().guessed_raw() && !options.read_only) {
    guest = std::make_unique<GuessedRaw>(std::move(guest));
  }
  guest = ApplyDiscardMode(options.discard, std::move(guest));
  co_return Target(chain, ApplyCachePolicy(options.cache, std::move(guest)));
}

Task<absl::StatusOr<Target>> OpenTarget(Host& host, std::string name, TargetOptions options) {
  absl::StatusOr<Target> target = co_await Target::Open(host, name, options);
  if (!target.ok()) {
    co_return absl::Status(target.status().code(), absl::StrFormat("Could not open '%s': %s", name,
                                                                   MessageOf(target.status())));
  }
  if (target->file().guessed_raw() && !options.read_only) WarnAboutGuessedRaw(name);
  co_return target;
}

}  // namespace ringcow
