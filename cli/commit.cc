#include "qcow2/commit.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/interrupt_notice.h"
#include "cli/lost_bitmaps.h"
#include "cli/progress.h"
#include "cli/sizes.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/backing_name.h"
#include "qcow2/failure_reason.h"

namespace ringcow {
namespace {

enum LongOnly { kImageOptions = kFirstLongOnlyKey, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'q', "quiet", nullptr, "print errors only"},
    {'p', "progress", nullptr, "show how far it has come"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {'t', "cache", "MODE", "cache mode, writeback (default), none, ..."},
    {'d', "drop", nullptr, "do not empty the image afterwards"},
    {'b', "base", "FILE", "which of its backing files to commit to; implies -d"},
    {'r', "rate", "RATE", "write so many bytes a second; 0: as many as can be"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

struct Settings {
  std::string name;
  TargetOptions target = {.format = "", .read_only = false, .force_share = false, .cache = {}};
  std::optional<std::string> base;
  uint64_t bytes_per_second = 0;
  bool drops = false;
  bool quiet = false;
  bool progress = false;
};

// A relative name begins where that of a backing file would in the image above.
bool IsNamed(const ImageFile& file, const ImageFile& above, const std::string& name) {
  const absl::StatusOr<std::string> path = LocalPath(FullBackingPath(above.host().path(), name));
  const UringDisk* const host_file = file.host().file();
  return path.ok() && host_file != nullptr && host_file->IsNamed(*path);
}

// How many layers are above the one to commit to.
absl::StatusOr<size_t> FindBase(const ImageChain& chain, const Settings& settings) {
  const std::vector<ImageChain::Layer>& layers = chain.layers();
  if (layers.size() == 1) {
    return absl::InvalidArgumentError("Image does not have a backing file");
  }
  if (!settings.base.has_value()) return size_t{1};
  for (size_t depth = 1; depth < layers.size(); ++depth) {
    if (IsNamed(layers[depth].file, layers[depth - 1].file, *settings.base)) return depth;
  }
  return absl::NotFoundError(absl::StrFormat("Did not find '%s' in the backing chain of '%s'",
                                             *settings.base, settings.name));
}

Task<absl::StatusOr<size_t>> LookForBase(Host& host, const Settings& settings) {
  TargetOptions options = settings.target;
  options.read_only = true;
  CO_ASSIGN_OR_RETURN(const Target target, co_await OpenTarget(host, settings.name, options));
  co_return FindBase(target.chain(), settings);
}

// The backing file has everything by now.
Task<absl::Status> EmptyIfWanted(const Settings& settings, const Target& target) {
  Image* const image = target.chain().image();
  if (settings.drops || settings.base.has_value() || image == nullptr) co_return absl::OkStatus();
  co_return FailureOf(absl::StrCat("Failed to empty ", settings.name), co_await image->Empty());
}

Task<absl::Status> CommitTo(const Program& program, const Settings& settings, const Target& target,
                            size_t depth) {
  const InterruptNotice notice(
      absl::StrFormat("%s: interrupted: '%s' is committed in part, and complete as it is",
                      program.name(), settings.name));
  Progress progress(settings.progress && !settings.quiet);
  progress.Begin();
  CommitOptions options = {.depth = depth,
                           .empties = false,
                           .bytes_per_second = settings.bytes_per_second,
                           .on_progress = progress.Listener()};
  const absl::Status status = co_await Commit(target.chain(), std::move(options));
  if (status.ok()) progress.Finish();
  progress.End();
  if (status.ok()) co_return co_await EmptyIfWanted(settings, target);
  co_return FailureOf("Block job failed", status);
}

Task<absl::Status> OpenAndCommit(const Program& program, Host& host, const Settings& settings) {
  CO_ASSIGN_OR_RETURN(const size_t depth, co_await LookForBase(host, settings));
  TargetOptions options = settings.target;
  options.also_writable = depth;
  CO_ASSIGN_OR_RETURN(const Target target, co_await OpenTarget(host, settings.name, options));
  if (target.chain().layers().size() <= depth) {
    co_return absl::AbortedError("The backing chain has changed meanwhile");
  }
  absl::Status status = co_await CommitTo(program, settings, target, depth);
  absl::Status closed = co_await target.guest().Close();
  if (const std::optional<std::string> lost = LostBitmaps(closed)) {
    program.Error(*lost);
    program.Error(*lost);
    closed = absl::Status(closed.code(), kErrorWhileClosing);
  }
  status.Update(closed);
  co_return status;
}

absl::Status RunOnHost(const Program& program, const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(OpenAndCommit(program, *host, settings));
}

int RunCommit(const Program& program, int argc, char** argv) {
  Settings settings;
  std::string cache_mode = "writeback";
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kCommitCommand);
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
        settings.target.format = options.argument();
        break;
      case 't':
        cache_mode = options.argument();
        break;
      case 'd':
        settings.drops = true;
        break;
      case 'b':
        settings.base = options.argument();
        break;
      case 'r': {
        const absl::StatusOr<uint64_t> rate = ParseSizeInRange("rate limit", options.argument(), 0,
                                                               std::numeric_limits<int64_t>::max());
        if (!rate.ok()) return program.Fail(rate.status());
        settings.bytes_per_second = *rate;
        break;
      }
      default:
        return EXIT_FAILURE;
    }
  }
  if (options.rest().size() != 1) return program.Misused("Expecting one image file name");
  settings.name = options.rest()[0];
  absl::Status status = SetCacheMode("cache", cache_mode, settings.target.cache);
  if (status.ok()) status = RunOnHost(program, settings);
  if (!status.ok()) return program.Fail(status);
  if (!settings.quiet) absl::PrintF("Image committed.\n");
  return EXIT_SUCCESS;
}

}  // namespace

const Command kCommitCommand = {
    .name = "commit",
    .summary = "Write what an image has changed to its backing file",
    .arguments = "FILE",
    .options = kOptions,
    .run = RunCommit,
};

}  // namespace ringcow
