#include "qcow2/amend.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "cli/command.h"
#include "cli/create_options.h"
#include "cli/driver_names.h"
#include "cli/progress.h"
#include "cli/snapshot_choice.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/format/options.h"

namespace ringcow {
namespace {

enum LongOnly { kForce = kFirstLongOnlyKey, kImageOptions, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'q', "quiet", nullptr, "print errors only"},
    {'p', "progress", nullptr, "show how far it has come"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {'t', "cache", "MODE", "cache mode, writeback (default), none, ..."},
    {'o', "options", "OPTIONS", "NAME=VALUE[,...]: what to change; '-o help' lists them"},
    {kForce, "force", nullptr, "permit dangerous changes; none of these is one"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

// What `create -o` takes and can be changed later.
constexpr std::array<absl::string_view, 8> kAmendable = {
    "backing_file",  "backing_fmt",    "compat",        "data_file",
    "data_file_raw", "lazy_refcounts", "refcount_bits", "size"};
constexpr absl::string_view kIterationTime = "encrypt.iter-time";

struct Settings {
  std::string name;
  TargetOptions target = {.format = "", .read_only = false, .force_share = false, .cache = {}};
  std::vector<NamedValue> changes;
  bool quiet = false;
  bool progress = false;
};

template <typename Names>
bool Contains(const Names& names, absl::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool Names(std::span<const CreateOptionSpec> specs, absl::string_view name) {
  return std::any_of(specs.begin(), specs.end(),
                     [name](const CreateOptionSpec& spec) { return name == spec.name; });
}

absl::Status CheckName(absl::string_view name) {
  if (Contains(kAmendable, name)) return absl::OkStatus();
  if (name == kIterationTime || Names(KeyslotOptionSpecs(), name)) {
    return absl::InvalidArgumentError("Can't amend encryption options - encryption not present");
  }
  const std::string invalid = absl::StrFormat("Invalid parameter '%s'", name);
  const bool is_for_creation = Names(CreateOptionSpecs(ImageFormat::kQcow2), name);
  if (!is_for_creation) return absl::InvalidArgumentError(invalid);
  return absl::InvalidArgumentError(
      absl::StrCat(invalid, "\nThis option is only supported for image creation"));
}

absl::StatusOr<AmendOptions> ParseChanges(const std::vector<NamedValue>& changes) {
  CreateOptionValues values(ImageFormat::kQcow2);
  std::vector<std::string> given;
  for (const NamedValue& change : changes) {
    // "nolazy_refcounts" is a flag that is off.
    const absl::string_view flag = absl::StripPrefix(change.name, "no");
    const bool is_off = !change.value.has_value() && Contains(kAmendable, flag);
    given.emplace_back(is_off ? flag : change.name);
    RETURN_IF_ERROR(CheckName(given.back()));
    RETURN_IF_ERROR(values.Set(change));
  }
  AmendOptions options;
  for (const std::string& name : given) {
    if (name == "compat") {
      const absl::StatusOr<uint32_t> version = ParseCompat(values.Text(name));
      if (!version.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat("Unknown compatibility level ", values.Text(name)));
      }
      options.version = *version;
    }
    // 0 is no size, as in QEMU.
    if (name == "size" && values.Number(name) > 0) options.virtual_size = values.Number(name);
    if (name == "lazy_refcounts") options.lazy_refcounts = values.Flag(name);
    if (name == "refcount_bits") options.refcount_bits = values.Number(name);
    if (name == "data_file") options.data_file = values.Text(name);
    if (name == "data_file_raw") options.data_file_raw = values.Flag(name);
    if (name == "backing_file") options.backing_file = values.Text(name);
    if (name == "backing_fmt") options.backing_format = values.Text(name);
  }
  return options;
}

absl::Status CannotAmend(absl::string_view format) {
  return absl::UnimplementedError(
      absl::StrFormat("Format driver '%s' does not support option amendment", format));
}

absl::Status PrintChanges(ImageFormat format) {
  if (format != ImageFormat::kQcow2) return CannotAmend(FormatName(format));
  const auto keyslots = KeyslotOptionSpecs();
  std::vector<CreateOptionSpec> specs(keyslots.begin(), keyslots.end());
  for (const CreateOptionSpec& spec : CreateOptionSpecs(format)) {
    if (Contains(kAmendable, spec.name) || spec.name == kIterationTime) specs.push_back(spec);
  }
  absl::PrintF("Amend options for 'qcow2':\n%s", DescribeOptions(std::move(specs)));
  return absl::OkStatus();
}

// Without a moment in which somebody else could take the image: its file stays open, and locked.
Task<absl::Status> AmendOpen(const Target& target, AmendOptions options) {
  const ImageChain::Layer& top = target.chain().layers().front();
  Disk& disk = top.file.disk();
  // A new size may need the new version.
  AmendOptions later;
  if (options.version == 3U && options.virtual_size.has_value()) {
    later = std::exchange(options, AmendOptions{.version = options.version});
  }
  absl::Status status = co_await PrepareAmend(disk, *target.chain().image(), options);
  status.Update(co_await target.CloseImages());
  CO_RETURN_IF_ERROR(status);
  CO_RETURN_IF_ERROR(co_await FinishAmend(disk, options));
  if (!later.version.has_value()) co_return absl::OkStatus();

  OpenOptions again;
  const bool has_backing = target.chain().layers().size() > 1;
  again.backing = has_backing ? target.chain().layers()[1].guest.get() : nullptr;
  again.replaces_backing = true;
  again.data_file = top.data_file.has_value() ? &top.data_file->disk() : nullptr;
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<Image> image, co_await Image::Open(disk, again));
  status = co_await PrepareAmend(disk, *image, later);
  status.Update(co_await image->Close());
  CO_RETURN_IF_ERROR(status);
  co_return co_await FinishAmend(disk, later);
}

// Version 2 needs other tables of snapshots, too.
absl::Status CheckSnapshots(const Program& program, const Image& image,
                            const AmendOptions& options) {
  if (options.version.value_or(image.header().version) >= image.header().version) {
    return absl::OkStatus();
  }
  for (const Snapshot& snapshot : image.snapshots()) {
    const absl::Status usable = CheckSnapshotUsable(program, image, snapshot);
    if (usable.ok()) continue;
    return absl::Status(
        usable.code(), absl::StrCat("Failed to turn zero into data clusters: ", MessageOf(usable)));
  }
  return absl::OkStatus();
}

Task<absl::Status> Amend(const Program& program, Host& host, const Settings& settings,
                         Progress& progress) {
  CO_ASSIGN_OR_RETURN(const Target target,
                      co_await OpenTarget(host, settings.name, settings.target));
  const ImageFormat format = target.file().format();
  if (AsksForHelp(settings.changes)) co_return PrintChanges(format);
  if (target.chain().image() == nullptr) co_return CannotAmend(FormatName(format));
  CO_ASSIGN_OR_RETURN(AmendOptions options, ParseChanges(settings.changes));
  options.on_progress = progress.Listener();
  CO_RETURN_IF_ERROR(CheckSnapshots(program, *target.chain().image(), options));
  absl::Status status = co_await AmendOpen(target, options);
  status.Update(co_await target.CloseFiles());
  co_return status;
}

absl::Status RunOnHost(const Program& program, const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  Progress progress(settings.progress && !settings.quiet);
  progress.Begin();
  const absl::Status status = host->loop.Run(Amend(program, *host, settings, progress));
  if (status.ok()) progress.Finish();
  progress.End();
  return status;
}

// -o, once more and once more.
absl::Status AddChanges(const char* text, Settings& settings) {
  const auto given = ParseOptionString(text);
  if (!given.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("Invalid option list: ", text));
  }
  settings.changes.insert(settings.changes.end(), given->begin(), given->end());
  return absl::OkStatus();
}

int AmendNamed(const Program& program, Settings& settings, std::span<char* const> names,
               const std::string& cache_mode) {
  if (settings.changes.empty()) return program.Misused("Must specify options (-o)");
  const std::optional<ImageFormat> format = FormatByName(settings.target.format);
  absl::Status status;
  if (AsksForHelp(settings.changes) && (format.has_value() || IsDriver(settings.target.format))) {
    status = format.has_value() ? PrintChanges(*format) : CannotAmend(settings.target.format);
    return status.ok() ? EXIT_SUCCESS : program.Fail(status);
  }
  if (names.size() != 1) return program.Fail("Expecting one image file name");
  settings.name = names[0];
  status = SetCacheMode("cache", cache_mode, settings.target.cache);
  if (status.ok()) status = RunOnHost(program, settings);
  return status.ok() ? EXIT_SUCCESS : program.Fail(status);
}

int RunAmend(const Program& program, int argc, char** argv) {
  Settings settings;
  std::string cache_mode = "writeback";
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kAmendCommand);
      case 'q':
        settings.quiet = true;
        break;
      case 'p':
        settings.progress = true;
        break;
      case 'f':
        settings.target.format = options.argument();
        break;
      case 't':
        cache_mode = options.argument();
        break;
      case 'o': {
        const absl::Status added = AddChanges(options.argument(), settings);
        if (!added.ok()) return program.Fail(added);
        break;
      }
      case kForce:
        break;
      case kImageOptions:
        settings.target.image_options = true;
        break;
      default:
        return EXIT_FAILURE;
    }
  }
  return AmendNamed(program, settings, options.rest(), cache_mode);
}

}  // namespace

const Command kAmendCommand = {
    .name = "amend",
    .summary = "Change what an image is like",
    .arguments = "-o OPTIONS FILE",
    .options = kOptions,
    .run = RunAmend,
};

}  // namespace ringcow
