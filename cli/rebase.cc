#include "qcow2/rebase.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/driver_names.h"
#include "cli/interrupt_notice.h"
#include "cli/node_name.h"
#include "cli/progress.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/backing_name.h"

namespace ringcow {
namespace {

enum LongOnly { kImageOptions = kFirstLongOnlyKey, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'q', "quiet", nullptr, "print errors only"},
    {'p', "progress", nullptr, "show how far it has come"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {'t', "cache", "MODE", "the image's cache mode, writeback (default), none, ..."},
    {'b', "backing", "FILE", "the new backing file; \"\": none"},
    {'F', "backing-format", "FMT", "the new backing file's format"},
    {'T', "backing-cache", "MODE", "the new backing file's cache mode, as for -t"},
    {'u', "backing-unsafe", nullptr,
     "change the name alone: what the image does not have itself comes from the new file as it is"},
    {'c', "compress", nullptr, "store compressed what is written to the image"},
    {'U', "force-share", nullptr, "also when the new backing file is in use elsewhere"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

struct Settings {
  std::string name;
  TargetOptions target = {.format = "", .read_only = false, .force_share = false, .cache = {}};
  std::optional<std::string> backing;
  TargetOptions new_backing;
  bool compresses = false;
  bool quiet = false;
  bool progress = false;

  bool is_unsafe() const { return target.without_backing; }
  std::string new_name() const { return backing.value_or(""); }
};

// Closed like any other.
struct NewBacking {
  std::optional<Target> own;
  std::optional<size_t> depth;  // it is a layer of the image's own chain
};

std::optional<size_t> FindLayer(const ImageChain& chain, const std::string& name) {
  const absl::StatusOr<std::string> path = LocalPath(name);
  if (!path.ok()) return std::nullopt;
  for (size_t depth = 1; depth < chain.layers().size(); ++depth) {
    const UringDisk* const file = chain.layers()[depth].file.host().file();
    if (file != nullptr && file->IsNamed(*path)) return depth;
  }
  return std::nullopt;
}

Task<absl::StatusOr<NewBacking>> OpenNewBacking(Host& host, const Settings& settings,
                                                const ImageChain& chain) {
  NewBacking backing;
  if (settings.new_name().empty()) co_return backing;
  const std::string path = chain.file().host().path();
  if (IsLost(path, settings.new_name())) {
    co_return absl::FailedPreconditionError(absl::StrFormat(
        "Could not resolve backing filename: Cannot use relative backing file names for '%s'",
        NameOfImage(chain.file()).Text()));
  }
  const std::string full = FullBackingPath(path, settings.new_name());
  backing.depth = FindLayer(chain, full);
  if (backing.depth.has_value()) co_return backing;
  absl::StatusOr<Target> opened = co_await Target::Open(host, full, settings.new_backing);
  if (!opened.ok()) {
    co_return absl::Status(opened.status().code(),
                           absl::StrFormat("Could not open new backing file '%s': %s",
                                           settings.new_name(), MessageOf(opened.status())));
  }
  backing.own = *std::move(opened);
  co_return backing;
}

// The image reads the same whichever of the two is behind it.
Task<absl::Status> MakeSafe(Host& host, const Settings& settings, const ImageChain& chain,
                            Progress& progress) {
  CO_ASSIGN_OR_RETURN(const NewBacking backing, co_await OpenNewBacking(host, settings, chain));
  if (chain.image() == nullptr) co_return absl::OkStatus();
  RebaseOptions options = {.depth = backing.depth,
                           .compresses = settings.compresses,
                           .on_progress = progress.Listener()};
  if (backing.own.has_value()) options.backing = &backing.own->guest();
  if (backing.depth.has_value()) options.backing = chain.layers()[*backing.depth].guest.get();
  absl::Status status = co_await PrepareRebase(chain, std::move(options));
  if (backing.own.has_value()) status.Update(co_await backing.own->guest().Close());
  co_return status;
}

absl::Status ExplainFailure(const Settings& settings, const absl::Status& status) {
  if (status.ok()) return status;
  std::string why = MessageOf(status);
  if (absl::IsOutOfRange(status)) why = "No space left in the file header";
  return absl::Status(status.code(), absl::StrFormat("Could not change the backing file to '%s': "
                                                     "%s",
                                                     settings.new_name(), why));
}

Task<absl::Status> ChangeName(const Settings& settings, const ImageChain& chain) {
  if (chain.image() == nullptr) {
    co_return absl::UnimplementedError("Operation not supported");
  }
  const std::string& format = settings.new_backing.format;
  if (!settings.new_name().empty() && format.empty()) {
    co_return absl::InvalidArgumentError("backing format must be specified");
  }
  co_return co_await ChangeBackingFile(chain.file().disk(), settings.new_name(),
                                       settings.new_name().empty() ? "" : format);
}

absl::Status CheckSettings(const Settings& settings, const ImageChain& chain) {
  if (settings.compresses && chain.image() == nullptr) {
    return absl::InvalidArgumentError("Compression not supported for this file format");
  }
  const std::string& format = settings.new_backing.format;
  // With -u an image may get a backing file that is for others to open.
  if (format.empty() || IsDriver(format)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("Invalid format name: '%s'", format));
}

Task<absl::Status> RebaseOpen(const Program& program, Host& host, const Settings& settings,
                              Progress& progress) {
  CO_ASSIGN_OR_RETURN(const Target target,
                      co_await OpenTarget(host, settings.name, settings.target));
  const ImageChain& chain = target.chain();
  CO_RETURN_IF_ERROR(CheckSettings(settings, chain));
  const InterruptNotice notice(absl::StrFormat(
      "%s: interrupted: '%s' has its old backing file, or its new one, and reads as before",
      program.name(), settings.name));
  absl::Status status;
  if (!settings.is_unsafe()) status = co_await MakeSafe(host, settings, chain, progress);
  // All that the image has of its own is durable before the name of what it had it from is gone.
  status.Update(co_await target.CloseImages());
  if (status.ok()) status = ExplainFailure(settings, co_await ChangeName(settings, chain));
  status.Update(co_await target.CloseFiles());
  co_return status;
}

absl::Status RunOnHost(const Program& program, const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  Progress progress(settings.progress && !settings.quiet);
  progress.Begin();
  const absl::Status status = host->loop.Run(RebaseOpen(program, *host, settings, progress));
  if (status.ok()) progress.Finish();
  progress.End();
  return status;
}

void SetOption(int key, const char* argument, Settings& settings) {
  switch (key) {
    case 'q':
      settings.quiet = true;
      break;
    case 'p':
      settings.progress = true;
      break;
    case kImageOptions:
      settings.target.image_options = true;
      break;
    case 'f':
      settings.target.format = argument;
      break;
    case 'b':
      settings.backing = argument;
      break;
    case 'F':
      settings.new_backing.format = argument;
      break;
    case 'u':
      settings.target.without_backing = true;
      break;
    case 'c':
      settings.compresses = true;
      break;
    case 'U':
      settings.new_backing.force_share = true;
      break;
    default:
      break;
  }
}

int RunRebase(const Program& program, int argc, char** argv) {
  Settings settings;
  std::string cache_mode = "writeback";
  std::string backing_cache_mode = "writeback";
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    if (*option == 'h') return PrintHelp(program, kRebaseCommand);
    if (*option == kBadOption) return EXIT_FAILURE;
    if (*option == 't') cache_mode = options.argument();
    if (*option == 'T') backing_cache_mode = options.argument();
    SetOption(*option, options.argument(), settings);
  }
  if (options.rest().size() != 1) return program.Misused("Expecting one image file name");
  settings.name = options.rest()[0];
  if (!settings.is_unsafe() && !settings.backing.has_value()) {
    return program.Misused("Must specify backing file (-b) or use unsafe mode (-u)");
  }
  absl::Status status = SetCacheMode("cache", cache_mode, settings.target.cache);
  if (status.ok()) {
    status = SetCacheMode("source cache", backing_cache_mode, settings.new_backing.cache);
  }
  if (status.ok()) status = RunOnHost(program, settings);
  return status.ok() ? EXIT_SUCCESS : program.Fail(status);
}

}  // namespace

const Command kRebaseCommand = {
    .name = "rebase",
    .summary = "Change the backing file of an image",
    .arguments = "FILE",
    .options = kOptions,
    .run = RunRebase,
};

}  // namespace ringcow
