#include <algorithm>
#include <cstdlib>
#include <functional>
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
#include "cli/convert_settings.h"
#include "cli/copy_bitmaps.h"
#include "cli/create_options.h"
#include "cli/driver_names.h"
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
#include "qcow2/failure_reason.h"

namespace ringcow {
namespace {

using Targets = std::vector<Target>;

// A file that grows reads as zeroes where nothing was written; a device does not.
bool IsDevice(const ImageFile& file) {
  const UringDisk* const host_file = file.host().outermost_file();
  return host_file == nullptr || host_file->is_device();
}

Task<absl::StatusOr<Targets>> OpenSources(Host& host, const ConvertSettings& settings) {
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
absl::Status SetOptions(const ConvertSettings& settings, ImageFormat format, uint64_t size,
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

Task<absl::StatusOr<NewTarget>> CreateTarget(const Program& program, Host& host,
                                             const ConvertSettings& settings,
                                             const Targets& sources) {
  const std::optional<ImageFormat> format = FormatByName(settings.format());
  if (!format.has_value()) co_return CannotCreate(settings.format());
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
  const absl::StatusOr<FileAttributes> attributes = FileAttributesOf(program, values);
  absl::Status status = options.status();
  status.Update(attributes.status());
  if (status.ok()) status = co_await CreateImageFile(host, path, *format, *options, *attributes);
  if (!status.ok()) {
    co_return absl::Status(
        status.code(), absl::StrFormat("%s: error while converting %s: %s", settings.target_name,
                                       settings.format(), MessageOf(status)));
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

std::function<void(const Unreadable& sector)> WarnUnlessQuiet(const Program& program,
                                                              const ConvertSettings& settings) {
  return [&program, quiet = settings.quiet](const Unreadable& sector) {
    if (quiet) return;
    const char* const what = sector.is_status ? "block status at offset" : "offset";
    program.Error(absl::StrFormat("warning: error while reading %s %d: %s", what, sector.offset,
                                  FailureReason(sector.why)));
  };
}

Task<absl::Status> CopyInto(const Program& program, Host& host, const ConvertSettings& settings,
                            const Targets& sources, const Target& target, NewTarget made) {
  if (target.guest().size() < SizeOf(sources)) {
    co_return absl::InvalidArgumentError("output file is smaller than input file");
  }
  const InterruptNotice notice(absl::StrFormat("%s: interrupted: '%s' is not complete",
                                               program.name(), settings.target_name));
  CopyOptions options = settings.copy;
  options.fills = options.min_zeroes == 0;
  options.zero_manner = ZeroManner::kMayUnmap;
  if (settings.salvages) options.on_unreadable = WarnUnlessQuiet(program, settings);
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
  std::optional<HostCopy> host_copy;
  UringDisk* const target_file = target.file().host().file();
  // What lies on a file has to see its requests.
  const bool is_file = target_file != nullptr && &target.file().disk() == target_file &&
                       target.file().host().source().above.empty();
  if (settings.offloads && is_file && target.file().format() == ImageFormat::kRaw) {
    host_copy.emplace(*host.workers, source, *target.chain().layers().front().guest, *target_file);
    options.host_copy = &*host_copy;
  }
  absl::Status status =
      co_await CopyLoop(host.loop, source, target.guest(), std::move(options)).Run();
  if (status.ok() && host_copy.has_value() && !settings.target.cache.no_flush) {
    status = co_await host_copy->Flush();
  }
  if (status.ok()) progress.Finish();
  progress.End();
  co_return status;
}

Task<absl::Status> Convert(const Program& program, Host& host, const ConvertSettings& settings) {
  CO_ASSIGN_OR_RETURN(const Targets sources, co_await OpenSources(host, settings));
  if (settings.copies_bitmaps) {
    CO_RETURN_IF_ERROR(co_await CheckBitmaps(
        sources.front().chain(),
        settings.skips_broken_bitmaps ? BrokenBitmaps::kSkip : BrokenBitmaps::kRefuse));
  }
  NewTarget made{.has_backing = settings.backing.has_value()};
  if (made.has_backing && sources.size() > 1) {
    co_return absl::InvalidArgumentError(
        "Having a backing file for the target makes no sense when concatenating multiple input "
        "images");
  }
  if (settings.creates) {
    CO_ASSIGN_OR_RETURN(made, co_await CreateTarget(program, host, settings, sources));
  }
  TargetOptions options = settings.target;
  // What a list of options says of the format must not be contradicted.
  options.format = options.image_options ? settings.given_format.value_or("") : settings.format();
  if (options.format.empty() && !options.image_options) options.format = "raw";
  CO_ASSIGN_OR_RETURN(const Target target,
                      co_await OpenTarget(host, settings.target_name, options));
  if (settings.copies_bitmaps && !CanHaveBitmaps(target.chain())) {
    co_return absl::InvalidArgumentError(absl::StrFormat(
        "Format driver '%s' does not support bitmaps", FormatName(target.file().format())));
  }
  absl::Status status = co_await CopyInto(program, host, settings, sources, target, made);
  if (status.ok() && settings.copies_bitmaps) {
    status = co_await CopyBitmaps(program, sources.front().chain(), target.chain());
  }
  status.Update(co_await target.guest().Close());
  co_return status;
}

absl::Status RunOnHost(const Program& program, const ConvertSettings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(Convert(program, *host, settings));
}

int RunConvert(const Program& program, int argc, char** argv) {
  ConvertSettings settings;
  OptionParser options(program, ConvertOptions(), argc, argv);
  while (const std::optional<int> option = options.Next()) {
    if (*option == 'h') return PrintHelp(program, kConvertCommand);
    if (*option == kBadOption) return EXIT_FAILURE;
    const absl::Status set = SetConvertOption(*option, options.argument(), settings);
    if (!set.ok()) return program.Fail(set);
  }
  if (AsksForHelp(settings)) {
    const std::optional<ImageFormat> format = FormatByName(settings.format());
    if (!format.has_value()) return program.Fail(CannotCreate(settings.format()));
    absl::PrintF("%s", DescribeCreateOptions(*format, options.rest().size() > 1));
    return EXIT_SUCCESS;
  }
  const std::span<char*> names = options.rest();
  if (names.size() > 1) {
    settings.sources.assign(names.begin(), names.end() - 1);
    settings.target_name = names.back();
  }
  absl::Status status = CheckConvertSettings(settings);
  if (status.ok()) status = RunOnHost(program, settings);
  return status.ok() ? EXIT_SUCCESS : program.Fail(status);
}

}  // namespace

const Command kConvertCommand = {
    .name = "convert",
    .summary = "Copy images into another, of any format",
    .arguments = "FILE [FILE]... TARGET",
    .options = ConvertOptions(),
    .run = RunConvert,
};

}  // namespace ringcow
