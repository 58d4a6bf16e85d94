#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/command.h"
#include "cli/create_options.h"
#include "cli/interrupt_notice.h"
#include "cli/new_image.h"
#include "cli/progress.h"
#include "cli/sizes.h"
#include "cli/snapshot_choice.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/backing_name.h"
#include "qcow2/copy_loop.h"
#include "qcow2/copy_source.h"

namespace ringcow {
namespace {

enum LongOnly {
  kSourceImageOptions = kFirstLongOnlyKey,
  kTargetImageOptions,
  kTargetIsZero,
  kBitmaps,
  kSkipBrokenBitmaps,
  kSalvage,
  kObject,
};

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'q', "quiet", nullptr, "print errors only"},
    {'p', "progress", nullptr, "show how far it has come"},
    {'f', "source-format", "FMT", "the sources' format; else it is guessed"},
    {'O', "target-format", "FMT", "the target's format: raw (default) or qcow2"},
    {'o', "target-options", "OPTIONS", "NAME=VALUE[,...] for the target; '-o help' lists them"},
    {'l', "source-snapshot", "SNAPSHOT",
     "the source as it was at a snapshot: its id or name, or snapshot.id=ID,snapshot.name=NAME"},
    {'T', "source-cache", "MODE", "the sources' cache mode: writeback (default), none, ..."},
    {'t', "target-cache", "MODE", "the target's cache mode: unsafe (default), none, ..."},
    {'B', "backing", "FILE",
     "the target's backing file; it holds what the source's backing file holds"},
    {'F', "backing-format", "FMT", "the backing file's format"},
    {'n', "no-create", nullptr, "write to a target that is there already"},
    {kTargetIsZero, "target-is-zero", nullptr, "with -n: it reads as zeroes"},
    {'S', "sparse-size", "SIZE",
     "zeroes of so many bytes need no space (default 4k); 0: write them all"},
    {'U', "force-share", nullptr, "also when a source is in use elsewhere"},
    {'m', "parallel", "NUMBER", "requests under way, 1 to 16 (default 8)"},
    {'W', "oob-writes", nullptr, "write in any order"},
    {'c', "compress", nullptr, "store the data compressed, on several threads (qcow2 only)"},
    {'r', "rate", "RATE", nullptr, "is not supported yet"},
    {'C', "copy-range-offloading", nullptr, nullptr, "is not supported yet"},
    {kBitmaps, "bitmaps", nullptr, nullptr, "is not supported yet"},
    {kSkipBrokenBitmaps, "skip-broken-bitmaps", nullptr, nullptr, "is not supported yet"},
    {kSalvage, "salvage", nullptr, nullptr, "is not supported yet"},
    {kSourceImageOptions, "source-image-opts", nullptr, nullptr, "is not supported yet"},
    {kTargetImageOptions, "target-image-opts", nullptr, nullptr, "is not supported yet"},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

struct Settings {
  std::vector<std::string> sources;
  TargetOptions source;
  std::string target_name;
  TargetOptions target = {
      .format = "", .read_only = false, .force_share = false, .cache = {.no_flush = true}};
  std::string format = "raw";
  std::vector<std::string> option_strings;
  std::optional<std::string> backing;
  std::optional<std::string> backing_format;
  std::optional<SnapshotChoice> snapshot;
  bool creates = true;
  bool target_is_zero = false;
  bool compresses = false;
  bool quiet = false;
  bool progress = false;
  CopyOptions copy;
};

using Targets = std::vector<Target>;

// A file that grows reads as zeroes where nothing was written; a device does not.
bool IsDevice(const ImageFile& file) {
  struct stat info{};
  return fstat(file.disk().fd(), &info) != 0 || S_ISBLK(info.st_mode);
}

Task<absl::StatusOr<Targets>> OpenSources(Host& host, const Settings& settings) {
  Targets sources;
  for (const std::string& name : settings.sources) {
    CO_ASSIGN_OR_RETURN(Target source, co_await OpenTarget(host, name, settings.source));
    sources.push_back(std::move(source));
  }
  if (!settings.snapshot.has_value()) co_return sources;
  if (sources.size() > 1) {
    co_return absl::InvalidArgumentError("No support for concatenating multiple snapshot");
  }
  // The image is looked at first, since it tells which snapshots there are.
  CO_RETURN_IF_ERROR(CheckSnapshotExists(sources.front(), *settings.snapshot));
  TargetOptions options = settings.source;
  options.snapshot = settings.snapshot;
  sources.clear();
  CO_ASSIGN_OR_RETURN(Target source, co_await OpenTarget(host, settings.sources.front(), options));
  sources.push_back(std::move(source));
  co_return sources;
}

uint64_t SizeOf(const Targets& sources) {
  uint64_t bytes = 0;
  for (const Target& source : sources) bytes += source.chain().size();
  return bytes;
}

// -o, -B and -F.
absl::Status SetOptions(const Settings& settings, ImageFormat format, uint64_t size,
                        CreateOptionValues& values) {
  const std::string joined = absl::StrJoin(settings.option_strings, ",");
  const auto given = ParseOptionString(joined).value_or(std::vector<NamedValue>());
  for (const NamedValue& option : given) RETURN_IF_ERROR(values.Set(option));
  RETURN_IF_ERROR(values.Set({"size", absl::StrCat(size)}));
  if (settings.backing.has_value()) {
    if (format != ImageFormat::kQcow2) {
      return absl::InvalidArgumentError("Backing file not supported for file format 'raw'");
    }
    RETURN_IF_ERROR(values.Set({"backing_file", settings.backing}));
  }
  if (!settings.backing_format.has_value()) return absl::OkStatus();
  if (format != ImageFormat::kQcow2) {
    return absl::InvalidArgumentError("Backing file format not supported for file format 'raw'");
  }
  return values.Set({"backing_fmt", settings.backing_format});
}

// What the target is, when it has been made or found.
struct NewTarget {
  bool has_backing = false;
  bool is_zero = false;
};

Task<absl::StatusOr<NewTarget>> CreateTarget(Host& host, const Settings& settings,
                                             const Targets& sources) {
  const std::optional<ImageFormat> format = FormatByName(settings.format);
  if (!format.has_value()) {
    co_return absl::InvalidArgumentError(
        absl::StrFormat("Unknown file format '%s'", settings.format));
  }
  CreateOptionValues values(*format);
  CO_RETURN_IF_ERROR(SetOptions(settings, *format, SizeOf(sources), values));
  NewTarget made{.has_backing = *format == ImageFormat::kQcow2 && values.Has("backing_file")};
  if (made.has_backing && !values.Has("backing_fmt")) {
    co_return absl::InvalidArgumentError("Use of backing file requires explicit backing format");
  }
  if (made.has_backing && sources.size() > 1) {
    co_return absl::InvalidArgumentError(
        "Having a backing file for the target makes no sense when concatenating multiple input "
        "images");
  }
  if (settings.compresses && *format != ImageFormat::kQcow2) {
    co_return absl::InvalidArgumentError("Compression not supported for this file format");
  }
  if (settings.compresses && values.Has("preallocation") && values.Text("preallocation") != "off") {
    co_return absl::InvalidArgumentError(
        "Compression and preallocation not supported at the same time");
  }
  CO_ASSIGN_OR_RETURN(const std::string path, LocalPath(settings.target_name));
  const absl::StatusOr<CreateOptions> options = CreateOptionsOf(*format, values);
  absl::Status status = options.status();
  if (status.ok()) status = co_await CreateImageFile(host, path, *format, *options);
  if (!status.ok()) {
    co_return absl::Status(
        status.code(), absl::StrFormat("%s: error while converting %s: %s", settings.target_name,
                                       settings.format, MessageOf(status)));
  }
  made.is_zero = !made.has_backing &&
                 (*format == ImageFormat::kQcow2 && options->preallocation == Preallocation::kOff);
  co_return made;
}

CopySource SourceOf(const Targets& sources, const Target& target, NewTarget made) {
  const std::vector<ImageChain::Layer>& layers = target.chain().layers();
  if (made.has_backing && layers.size() > 1) {
    // A source without a backing file is copied as it is, what it does not have as zeroes.
    return CopySource({sources.front().chain().layers().front().guest.get()},
                      layers[1].guest->size());
  }
  std::vector<const ImageChain*> images;
  images.reserve(sources.size());
  for (const Target& source : sources) images.push_back(&source.chain());
  return CopySource(std::move(images));
}

Task<absl::Status> CopyInto(const Program& program, Host& host, const Settings& settings,
                            const Targets& sources, const Target& target, NewTarget made) {
  if (target.guest().size() < SizeOf(sources)) {
    co_return absl::InvalidArgumentError("output file is smaller than input file");
  }
  const InterruptNotice notice(absl::StrFormat("%s: interrupted: '%s' is not complete",
                                               program.name(), settings.target_name));
  CopyOptions options = settings.copy;
  options.fills = options.min_zeroes == 0;
  options.zero_manner = ZeroManner::kMayUnmap;
  options.target_is_zero = settings.target_is_zero || made.is_zero ||
                           (settings.creates && !made.has_backing && !IsDevice(target.file()));
  if (settings.compresses) {
    const Image* image = target.chain().image();
    if (image == nullptr) {
      co_return absl::InvalidArgumentError("Compression not supported for this file format");
    }
    options.compressed_cluster = image->geometry().cluster_bytes();
    options.request_bytes = options.compressed_cluster;
  }
  const CopySource source = SourceOf(sources, target, made);
  Progress progress(settings.progress && !settings.quiet);
  progress.Begin();
  options.on_progress = progress.Listener();
  const absl::Status status =
      co_await CopyLoop(host.loop, source, target.guest(), std::move(options)).Run();
  if (status.ok()) progress.Finish();
  progress.End();
  co_return status;
}

Task<absl::Status> Convert(const Program& program, Host& host, const Settings& settings) {
  CO_ASSIGN_OR_RETURN(const Targets sources, co_await OpenSources(host, settings));
  NewTarget made{.has_backing = settings.backing.has_value()};
  if (made.has_backing && sources.size() > 1) {
    co_return absl::InvalidArgumentError(
        "Having a backing file for the target makes no sense when concatenating multiple input "
        "images");
  }
  if (settings.creates) {
    CO_ASSIGN_OR_RETURN(made, co_await CreateTarget(host, settings, sources));
  }
  TargetOptions options = settings.target;
  options.format = settings.format;
  if (options.format.empty()) options.format = "raw";
  CO_ASSIGN_OR_RETURN(const Target target,
                      co_await OpenTarget(host, settings.target_name, options));
  absl::Status status = co_await CopyInto(program, host, settings, sources, target, made);
  status.Update(co_await target.guest().Close());
  co_return status;
}

absl::Status RunOnHost(const Program& program, const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(Convert(program, *host, settings));
}

absl::Status SetSparseSize(const char* text, CopyOptions& copy) {
  constexpr uint64_t kMaxSparse = 16 << 20;
  ASSIGN_OR_RETURN(copy.min_zeroes, ParseSizeInRange("buffer size for sparse output", text, 0,
                                                     std::numeric_limits<int64_t>::max()));
  if (IsAligned(copy.min_zeroes, kSectorBytes) && copy.min_zeroes <= kMaxSparse) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "Invalid buffer size for sparse output specified. Valid sizes are multiples of %d up to %d. "
      "Select 0 to disable sparse detection (fully allocates output).",
      kSectorBytes, kMaxSparse));
}

absl::Status SetCacheMode(const char* what, const char* mode, CachePolicy& policy) {
  const std::optional<CachePolicy> parsed = ParseCacheMode(mode);
  if (!parsed.has_value()) {
    return absl::InvalidArgumentError(absl::StrFormat("Invalid %s option: %s", what, mode));
  }
  policy = *parsed;
  return absl::OkStatus();
}

absl::Status SetOption(int key, const char* argument, Settings& settings) {
  switch (key) {
    case 'q':
      settings.quiet = true;
      break;
    case 'p':
      settings.progress = true;
      break;
    case 'f':
      settings.source.format = argument;
      break;
    case 'O':
      settings.format = argument;
      break;
    case 'o':
      if (!ParseOptionString(argument).has_value()) {
        return absl::InvalidArgumentError(absl::StrCat("Invalid option list: ", argument));
      }
      settings.option_strings.emplace_back(argument);
      break;
    case 'l': {
      ASSIGN_OR_RETURN(settings.snapshot, ParseSnapshotChoice(argument));
      break;
    }
    case 'T':
      return SetCacheMode("source cache", argument, settings.source.cache);
    case 't':
      return SetCacheMode("cache", argument, settings.target.cache);
    case 'B':
      settings.backing = argument;
      break;
    case 'F':
      settings.backing_format = argument;
      break;
    case 'n':
      settings.creates = false;
      break;
    case kTargetIsZero:
      settings.target_is_zero = true;
      break;
    case 'S':
      return SetSparseSize(argument, settings.copy);
    case 'U':
      settings.source.force_share = true;
      break;
    case 'm': {
      ASSIGN_OR_RETURN(const uint64_t number,
                       ParseNumberInRange("number of coroutines", argument, 1, 16));
      settings.copy.parallel = static_cast<unsigned>(number);
      break;
    }
    case 'c':
      settings.compresses = true;
      break;
    case 'W':
      settings.copy.out_of_order = true;
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

bool AsksForHelp(const Settings& settings) {
  for (const std::string& text : settings.option_strings) {
    const auto options = ParseOptionString(text);
    for (const NamedValue& option : options.value_or(std::vector<NamedValue>())) {
      if (!option.value.has_value() && (option.name == "help" || option.name == "?")) return true;
    }
  }
  return false;
}

absl::Status CheckSettings(const Settings& settings) {
  if (!settings.creates && !settings.option_strings.empty()) {
    return absl::InvalidArgumentError("-o has no effect when skipping image creation");
  }
  if (settings.sources.empty()) return absl::InvalidArgumentError("Must specify image file name");
  if (settings.target_is_zero && settings.creates) {
    return absl::InvalidArgumentError("--target-is-zero requires use of -n flag");
  }
  return absl::OkStatus();
}

int RunConvert(const Program& program, int argc, char** argv) {
  Settings settings;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    if (*option == 'h') return PrintHelp(program, kConvertCommand);
    if (*option == kBadOption) return EXIT_FAILURE;
    const absl::Status set = SetOption(*option, options.argument(), settings);
    if (!set.ok()) return program.Fail(set);
  }
  const std::optional<ImageFormat> format = FormatByName(settings.format);
  if (AsksForHelp(settings) && format.has_value()) {
    absl::PrintF("%s", DescribeCreateOptions(*format));
    return EXIT_SUCCESS;
  }
  const std::span<char*> names = options.rest();
  if (names.size() > 1) {
    settings.sources.assign(names.begin(), names.end() - 1);
    settings.target_name = names.back();
  }
  absl::Status status = CheckSettings(settings);
  if (status.ok()) status = RunOnHost(program, settings);
  return status.ok() ? EXIT_SUCCESS : program.Fail(status);
}

}  // namespace

const Command kConvertCommand = {
    .name = "convert",
    .summary = "Copy images into another, of any format",
    .arguments = "FILE [FILE]... TARGET",
    .options = kOptions,
    .run = RunConvert,
};

}  // namespace ringcow
