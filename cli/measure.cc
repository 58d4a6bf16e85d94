#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "cli/command.h"
#include "cli/create_options.h"
#include "cli/image_info.h"
#include "cli/json.h"
#include "cli/new_image.h"
#include "cli/output_format.h"
#include "cli/sizes.h"
#include "cli/snapshot_choice.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/chain_extent.h"
#include "qcow2/failure_reason.h"
#include "qcow2/format/full_size.h"

namespace ringcow {
namespace {

enum LongOnly { kOutput = kFirstLongOnlyKey, kSize, kImageOptions, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'O', "target-format", "FMT", "the new image's format: raw (default) or qcow2"},
    {'o', "target-options", "OPTIONS", "NAME=VALUE[,...] for the new image"},
    {kSize, "size", "SIZE", "of a new, empty image of this size"},
    {'f', "format", "FMT", "FILE's format; else it is guessed"},
    {'l', "snapshot", "SNAPSHOT", "FILE as it was at a snapshot, by id or name"},
    {kOutput, "output", "FORMAT", "human (default) or json"},
    {'U', "force-share", nullptr, "also when FILE is in use elsewhere"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

struct Settings {
  std::optional<std::string> name;
  TargetOptions source;
  std::optional<uint64_t> size;
  std::optional<SnapshotChoice> snapshot;
  std::string format = "raw";
  std::vector<std::string> option_strings;
  OutputFormat output = OutputFormat::kHuman;
};

// Bytes of a new file.
struct Measured {
  uint64_t required = 0;
  uint64_t fully_allocated = 0;
  std::optional<uint64_t> bitmaps = std::nullopt;  // of a source that can have some
};

// What of the source would be copied, in whole clusters of the new image.
Task<absl::StatusOr<uint64_t>> DataBytes(const ImageChain& source, uint64_t cluster_bytes) {
  uint64_t bytes = 0;
  for (uint64_t at = 0; at < source.size();) {
    const absl::StatusOr<ChainExtent> found =
        co_await FindInChain(source, GuestOffset(at), source.size() - at);
    CO_RETURN_IF_ERROR(FailureOf("Unable to get block status", found.status()));
    uint64_t next = at + found->extent.bytes;
    if (found->is_data()) {
      next = AlignUp(next, cluster_bytes);
      bytes += next - AlignDown(at, cluster_bytes);
    }
    at = next;
  }
  co_return bytes;
}

// What copies of the source's bitmaps would take, with the directory that lists them.
Task<absl::StatusOr<uint64_t>> BitmapBytes(const Target& source, uint64_t cluster_bytes) {
  constexpr uint64_t kDirectoryEntryBytes = 24;  // without the name
  CO_ASSIGN_OR_RETURN(const ImageInfo info, co_await ReadImageInfo(source.file()));
  uint64_t bytes = 0;
  uint64_t directory = 0;
  for (const BitmapDirectoryEntry& bitmap : info.bitmaps) {
    const uint64_t bits =
        DivideRoundUp(source.guest().size(), uint64_t{1} << bitmap.granularity_bits);
    const uint64_t clusters = DivideRoundUp(DivideRoundUp(bits, 8), cluster_bytes);
    bytes += clusters * cluster_bytes + AlignUp(clusters * kTableEntryBytes, cluster_bytes);
    directory += AlignUp(kDirectoryEntryBytes + bitmap.name.size(), kTableEntryBytes);
  }
  co_return bytes + AlignUp(directory, cluster_bytes);
}

absl::Status InMeasuresWords(const absl::Status& status) {
  if (!absl::IsOutOfRange(status)) return status;
  return absl::OutOfRangeError("The image size is too large (try using a larger cluster size)");
}

Task<absl::StatusOr<Measured>> MeasureQcow2(const CreateOptions& options, const Target* source) {
  CreateOptions rounded = options;
  rounded.virtual_size = AlignUp(options.virtual_size, options.cluster_size);
  const absl::StatusOr<Geometry> valid = ValidateCreateOptions(rounded);
  if (!valid.ok()) co_return InMeasuresWords(valid.status());
  const Geometry& geometry = *valid;
  const bool is_preallocated = options.preallocation == Preallocation::kFalloc ||
                               options.preallocation == Preallocation::kFull;
  uint64_t data = 0;
  Measured measured{.fully_allocated = FullImageBytes(geometry)};
  if (is_preallocated || (source != nullptr && !options.backing_file.empty())) {
    // What the backing file has is not known.
    data = geometry.virtual_size();
  } else if (source != nullptr) {
    CO_ASSIGN_OR_RETURN(data, co_await DataBytes(source->chain(), geometry.cluster_bytes()));
  }
  measured.required = measured.fully_allocated - geometry.virtual_size() + data;
  const Image* image = source == nullptr ? nullptr : source->chain().image();
  if (options.version >= 3 && image != nullptr && image->geometry().version() >= 3) {
    CO_ASSIGN_OR_RETURN(measured.bitmaps, co_await BitmapBytes(*source, geometry.cluster_bytes()));
  }
  co_return measured;
}

Task<absl::StatusOr<Measured>> MeasureFor(const Settings& settings, const Target* source) {
  const std::optional<ImageFormat> format = FormatByName(settings.format);
  if (!format.has_value()) {
    co_return absl::InvalidArgumentError(
        absl::StrFormat("Unknown file format '%s'", settings.format));
  }
  const uint64_t size = source != nullptr ? source->chain().size() : settings.size.value_or(0);
  CreateOptionValues values(*format);
  const std::string joined = absl::StrJoin(settings.option_strings, ",");
  for (const NamedValue& option : ParseOptionString(joined).value_or(std::vector<NamedValue>())) {
    const absl::Status set = values.Set(option);
    if (set.ok()) continue;
    co_return absl::InvalidArgumentError(absl::StrFormat("%s\nInvalid options for file format '%s'",
                                                         MessageOf(set), settings.format));
  }
  CO_RETURN_IF_ERROR(values.Set({"size", absl::StrCat(size)}));
  const absl::StatusOr<CreateOptions> options = CreateOptionsOf(*format, values);
  if (!options.ok()) co_return InMeasuresWords(options.status());
  if (*format == ImageFormat::kQcow2) co_return co_await MeasureQcow2(*options, source);
  const uint64_t bytes = AlignUp(size, kSectorBytes);
  co_return Measured{.required = bytes, .fully_allocated = bytes};
}

Task<absl::StatusOr<Measured>> OpenAndMeasure(Host& host, const Settings& settings) {
  if (!settings.name.has_value()) co_return co_await MeasureFor(settings, nullptr);
  TargetOptions options = settings.source;
  if (settings.snapshot.has_value()) {
    // It tells which snapshots there are.
    CO_ASSIGN_OR_RETURN(const Target now, co_await OpenTarget(host, *settings.name, options));
    CO_RETURN_IF_ERROR(CheckSnapshotExists(now, *settings.snapshot));
    options.snapshot = settings.snapshot;
  }
  CO_ASSIGN_OR_RETURN(const Target source, co_await OpenTarget(host, *settings.name, options));
  co_return co_await MeasureFor(settings, &source);
}

absl::StatusOr<Measured> Measure(const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(OpenAndMeasure(*host, settings));
}

void Print(const Measured& measured, OutputFormat output) {
  if (output == OutputFormat::kHuman) {
    absl::PrintF("required size: %d\nfully allocated size: %d\n", measured.required,
                 measured.fully_allocated);
    if (measured.bitmaps.has_value()) absl::PrintF("bitmaps size: %d\n", *measured.bitmaps);
    return;
  }
  Json::Object members;
  if (measured.bitmaps.has_value()) members.emplace_back("bitmaps", Json(*measured.bitmaps));
  members.emplace_back("required", Json(measured.required));
  members.emplace_back("fully-allocated", Json(measured.fully_allocated));
  absl::PrintF("%s\n", Json(std::move(members)).Pretty());
}

absl::Status CheckSettings(const Settings& settings, bool has_format, size_t names) {
  if (names > 1) return absl::InvalidArgumentError("At most one filename argument is allowed.");
  if (names == 0 && (has_format || settings.snapshot.has_value())) {
    return absl::InvalidArgumentError("--image-opts, -f, and -l require a filename argument.");
  }
  if (names == 0 && !settings.size.has_value()) {
    return absl::InvalidArgumentError("Either --size N or one filename must be specified.");
  }
  if (names == 1 && settings.size.has_value()) {
    return absl::InvalidArgumentError("--size N cannot be used together with a filename.");
  }
  return absl::OkStatus();
}

int RunMeasure(const Program& program, int argc, char** argv) {
  Settings settings;
  bool has_format = false;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kMeasureCommand);
      case 'O':
        settings.format = options.argument();
        break;
      case 'o':
        if (!ParseOptionString(options.argument()).has_value()) {
          return program.Fail(absl::StrCat("Invalid option list: ", options.argument()));
        }
        settings.option_strings.emplace_back(options.argument());
        break;
      case kSize: {
        const absl::StatusOr<uint64_t> size = ParseSizeInRange("image size", options.argument(), 0,
                                                               std::numeric_limits<int64_t>::max());
        if (!size.ok()) return program.Fail(size.status());
        settings.size = *size;
        break;
      }
      case kImageOptions:
        settings.source.image_options = true;
        has_format = true;
        break;
      case 'f':
        settings.source.format = options.argument();
        has_format = true;
        break;
      case 'l': {
        const absl::StatusOr<SnapshotChoice> choice = ParseSnapshotChoice(options.argument());
        if (!choice.ok()) return program.Fail(choice.status());
        settings.snapshot = *choice;
        break;
      }
      case kOutput: {
        const auto output = ParseOutputFormat(program, options.argument());
        if (!output.has_value()) return EXIT_FAILURE;
        settings.output = *output;
        break;
      }
      case 'U':
        settings.source.force_share = true;
        break;
      default:
        return EXIT_FAILURE;
    }
  }
  const absl::Status valid = CheckSettings(settings, has_format, options.rest().size());
  if (!valid.ok()) return program.Fail(valid);
  if (!options.rest().empty()) settings.name = options.rest()[0];
  const absl::StatusOr<Measured> measured = Measure(settings);
  if (!measured.ok()) {
    for (const auto line : absl::StrSplit(MessageOf(measured.status()), '\n')) program.Error(line);
    return EXIT_FAILURE;
  }
  Print(*measured, settings.output);
  return EXIT_SUCCESS;
}

}  // namespace

const Command kMeasureCommand = {
    .name = "measure",
    .summary = "Tell how much space a new image would take",
    .arguments = "[FILE]",
    .options = kOptions,
    .run = RunMeasure,
};

}  // namespace ringcow
