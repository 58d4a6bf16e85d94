#include "cli/target.h"

#include <map>
#include <utility>

#include "absl/strings/str_format.h"
#include "cli/guessed_raw.h"
#include "cli/option_string.h"
#include "cli/program.h"
#include "engine/status_macros.h"
#include "qcow2/image_source.h"

namespace ringcow {
namespace {

ImageFileOptions FileOptions(const Host& host, const TargetOptions& options) {
  return {.format = options.format,
          .read_only = options.read_only,
          .direct = options.cache.direct,
          .force_share = options.force_share,
          .workers = host.workers.get()};
}

using DriverOptions = std::map<std::string, std::string>;

// A first item without a name is the file.
absl::StatusOr<DriverOptions> ParseImageOptions(const std::string& text) {
  if (text.empty()) return DriverOptions();
  const auto items = ParseOptionString(text);
  if (!items.has_value()) {
    return absl::InvalidArgumentError(absl::StrFormat("Invalid option list: %s", text));
  }
  DriverOptions options;
  for (const NamedValue& item : *items) {
    if (options.empty() && !item.value.has_value()) {
      options["file"] = item.name;
    } else {
      options[item.name] = item.value.value_or("on");
    }
  }
  return options;
}

absl::StatusOr<ImageSource> SourceOfTarget(const std::string& name, const TargetOptions& options) {
  const bool is_described = options.image_options || !options.driver_options.empty();
  if (!is_described) return SourceOf(name, options.format);
  ASSIGN_OR_RETURN(ImageDescription description, DescriptionOfTarget(name, options));
  return SourceOf(std::move(description), "");
}

// For who does not look at the guest's disk.
absl::StatusOr<ImageSource> SourceOfFile(const std::string& name, const TargetOptions& options) {
  ASSIGN_OR_RETURN(ImageSource source, SourceOfTarget(name, options));
  if (!options.read_only || !source.copies_on_read()) return source;
  return absl::PermissionDeniedError("Block node is read-only");
}

}  // namespace

absl::StatusOr<ImageDescription> DescriptionOfTarget(const std::string& name,
                                                     const TargetOptions& options) {
  if (!options.image_options) {
    ASSIGN_OR_RETURN(ImageDescription description, DescriptionOf(name, options.driver_options));
    if (!options.format.empty()) description.Put("driver", options.format);
    return description;
  }
  // Who opens it says it in QEMU's words (CouldNotOpen).
  if (!options.format.empty()) return absl::InvalidArgumentError("a format, and options");
  ASSIGN_OR_RETURN(DriverOptions described, ParseImageOptions(name));
  for (const auto& [option, value] : options.driver_options) described[option] = value;
  return ImageDescription(std::move(described));
}

absl::StatusOr<std::unique_ptr<Host>> Host::Create() {
  auto host = std::make_unique<Host>();
  ASSIGN_OR_RETURN(host->rings, Rings::Create(host->loop));
  ASSIGN_OR_RETURN(host->workers,
                   WorkerPool::Create(*host->rings, WorkerPool::ThreadsForThisMachine()));
  return host;
}

Task<absl::StatusOr<ImageFile>> OpenImageFile(Host& host, std::string name, TargetOptions options) {
  CO_ASSIGN_OR_RETURN(ImageSource source, SourceOfFile(name, options));
  co_return co_await ImageFile::Open(*host.rings, std::move(source), FileOptions(host, options));
}

Task<absl::StatusOr<std::vector<ChainFiles>>> OpenFilesForCheck(Host& host, std::string name,
                                                                TargetOptions options) {
  CO_ASSIGN_OR_RETURN(ImageSource source, SourceOfFile(name, options));
  co_return co_await OpenChainFiles(*host.rings, std::move(source),
                                    {.file = FileOptions(host, options), .for_check = true});
}

Task<absl::StatusOr<Target>> Target::Open(Host& host, std::string name, TargetOptions options) {
  if (options.copy_on_read && options.read_only) {
    co_return absl::FailedPreconditionError("Can't use copy-on-read on read-only device");
  }
  ImageChainOptions chain_options = {.file = FileOptions(host, options), .image = {}};
  chain_options.image.copy_on_read = options.copy_on_read;
  chain_options.image.snapshot = options.snapshot;
  chain_options.also_writable = options.also_writable;
  chain_options.without_backing = options.without_backing;
  chain_options.image.workers = host.workers.get();
  chain_options.image.corruption = &host.corruption_notice;
  if (options.cache.writethrough) {
    chain_options.image.write_back.mode = CacheMode::kWritethrough;
  }
  CO_ASSIGN_OR_RETURN(ImageSource source, SourceOfTarget(name, options));
  CO_ASSIGN_OR_RETURN(
      std::unique_ptr<ImageChain> opened,
      co_await ImageChain::Open(*host.rings, std::move(source), std::move(chain_options)));
  ImageChain* const chain = opened.get();
  std::unique_ptr<GuestDisk> guest = std::move(opened);
  if (chain->file().guessed_raw() && !options.read_only) {
    guest = std::make_unique<GuessedRaw>(std::move(guest));
  }
  guest = ApplyDiscardMode(options.discard, std::move(guest));
  co_return Target(chain, ApplyCachePolicy(options.cache, std::move(guest)));
}

absl::Status CouldNotOpen(const std::string& name, const TargetOptions& options,
                          const absl::Status& why) {
  if (options.image_options && !options.format.empty()) {
    return absl::InvalidArgumentError("--image-opts and --format are mutually exclusive");
  }
  return absl::Status(why.code(), absl::StrFormat("Could not open '%s': %s", name, MessageOf(why)));
}

Task<absl::StatusOr<Target>> OpenTarget(Host& host, std::string name, TargetOptions options) {
  absl::StatusOr<Target> target = co_await Target::Open(host, name, options);
  if (!target.ok()) co_return CouldNotOpen(name, options, target.status());
  if (target->file().guessed_raw() && !options.read_only) WarnAboutGuessedRaw(name);
  co_return target;
}

}  // namespace ringcow
