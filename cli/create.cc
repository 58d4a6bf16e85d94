#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "cli/command.h"
#include "cli/create_options.h"
#include "cli/driver_names.h"
#include "cli/new_image.h"
#include "cli/sizes.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/backing_name.h"

namespace ringcow {
namespace {

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'q', "quiet", nullptr, "print errors only"},
    {'f', "format", "FMT", "the image's format, qcow2 or raw (the default)"},
    {kFirstLongOnlyKey, "object", "OBJECT", nullptr, "is not supported yet"},
    {'o', "options", "OPTIONS", "NAME=VALUE[,...] for the format; '-o help' lists them"},
    {'b', "backing", "FILE",
     "the backing file: an overlay is made, of its size if SIZE is missing"},
    {'F', "backing-format", "FMT", "the backing file's format"},
    {'u', "backing-unsafe", nullptr, "do not look at the backing file"},
};

struct Settings {
  ImageFormat format = ImageFormat::kRaw;
  bool quiet = false;
  std::string name;
  std::optional<std::string> backing_file;
  std::optional<std::string> backing_format;
  bool ignores_backing = false;  // -u
};

absl::Status Create(const Program& program, ImageFormat format, const CreateOptionValues& values,
                    const std::string& path) {
  ASSIGN_OR_RETURN(const CreateOptions options, CreateOptionsOf(format, values));
  ASSIGN_OR_RETURN(const FileAttributes attributes, FileAttributesOf(program, values));
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(CreateImageFile(*host, path, format, options, attributes));
}

absl::Status SetBackingOptions(CreateOptionValues& values, const Settings& settings) {
  const bool is_qcow2 = settings.format == ImageFormat::kQcow2;
  if (settings.backing_file.has_value()) {
    if (!is_qcow2) {
      return absl::InvalidArgumentError("Backing file not supported for file format 'raw'");
    }
    RETURN_IF_ERROR(values.Set({"backing_file", settings.backing_file}));
  }
  if (!settings.backing_format.has_value()) return absl::OkStatus();
  if (!is_qcow2) {
    return absl::InvalidArgumentError("Backing file format not supported for file format 'raw'");
  }
  return values.Set({"backing_fmt", settings.backing_format});
}

// Asks the backing file for its format, where that was not said, and for its size, where that was
// not. Nothing is read from it but metadata, so it may be in use elsewhere.
absl::Status AskBacking(const std::string& path, const std::string& name,
                        CreateOptionValues& values) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  const std::string format = values.Has("backing_fmt") ? values.Text("backing_fmt") : "";
  const absl::StatusOr<Target> target = host->loop.Run(
      Target::Open(*host, FullBackingPath(path, name),
                   {.format = format, .read_only = true, .force_share = true, .cache = {}}));
  if (!target.ok()) {
    return absl::Status(target.status().code(), absl::StrCat(MessageOf(target.status()),
                                                             "\nCould not open backing image."));
  }
  if (format.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Backing file specified without backing format\nDetected format of %s.",
                        FormatName(target->file().format())));
  }
  if (values.Has("size")) return absl::OkStatus();
  return values.Set({"size", absl::StrCat(target->guest().size())});
}

absl::Status SettleBacking(const Settings& settings, CreateOptionValues& values) {
  if (!values.Has("backing_file")) return absl::OkStatus();
  const std::string& name = values.Text("backing_file");
  if (name.empty()) {
    return absl::InvalidArgumentError("Expected backing file name, got empty string");
  }
  if (name == settings.name) {
    return absl::InvalidArgumentError(
        "Error: Trying to create an image with the same filename as the backing file");
  }
  if (!settings.ignores_backing) {
    ASSIGN_OR_RETURN(const std::string path, LocalPath(settings.name));
    return AskBacking(path, name, values);
  }
  if (values.Has("backing_fmt")) return absl::OkStatus();
  return absl::InvalidArgumentError("Backing file specified without backing format");
}

// -o, -b, -F and SIZE, in qemu-img's order of complaints. A SIZE that is no number is said without
// the file's name, so it is parsed by the caller.
absl::Status SetOptions(const Settings& settings, CreateOptionValues& values,
                        absl::string_view option_string, std::optional<uint64_t> size) {
  const auto given = ParseOptionString(option_string).value_or(std::vector<NamedValue>());
  for (const NamedValue& option : given) RETURN_IF_ERROR(values.Set(option));
  if (size.has_value()) {
    if (values.Has("size")) {
      return absl::InvalidArgumentError("The image size must be specified only once");
    }
    RETURN_IF_ERROR(values.Set({"size", absl::StrCat(*size)}));
  }
  RETURN_IF_ERROR(SetBackingOptions(values, settings));
  RETURN_IF_ERROR(SettleBacking(settings, values));
  if (!values.Has("size")) {
    return absl::InvalidArgumentError("Image creation needs a size parameter");
  }
  return absl::OkStatus();
}

bool AsksForHelp(absl::string_view option_string) {
  const std::optional<std::vector<NamedValue>> options = ParseOptionString(option_string);
  return options.has_value() && AsksForHelp(*options);
}

int CreateNamed(const Program& program, const Settings& settings, const std::string& option_string,
                const std::optional<uint64_t>& size) {
  const auto fail = [&](const absl::Status& status) {
    return program.Fail(absl::StrCat(settings.name, ": ", MessageOf(status)));
  };
  const absl::StatusOr<std::string> path = LocalPath(settings.name);
  if (!path.ok()) return fail(path.status());
  CreateOptionValues values(settings.format);
  if (const absl::Status set = SetOptions(settings, values, option_string, size); !set.ok()) {
    return fail(set);
  }
  if (!settings.quiet) {
    absl::PrintF("Formatting '%s', fmt=%s %s\n", settings.name, FormatName(settings.format),
                 values.Describe());
  }
  const absl::Status created = Create(program, settings.format, values, *path);
  if (!created.ok()) return fail(created);
  return EXIT_SUCCESS;
}

// What follows the options: FILE [SIZE].
int CreateFromArguments(const Program& program, const std::string& format,
                        const std::string& option_string, Settings& settings,
                        std::span<char*> arguments) {
  if (arguments.empty()) return program.Misused("Expecting image file name");
  settings.name = arguments[0];
  std::optional<uint64_t> size;
  if (arguments.size() > 1) {
    const absl::StatusOr<uint64_t> parsed =
        ParseSizeInRange("image size", arguments[1], 0, std::numeric_limits<int64_t>::max());
    if (!parsed.ok()) return program.Fail(parsed.status());
    size = *parsed;
  }
  if (arguments.size() > 2) {
    return program.Misused(absl::StrCat("Unexpected argument: ", arguments[2]));
  }
  const std::optional<ImageFormat> known_format = FormatByName(format);
  if (!known_format.has_value()) {
    return program.Fail(absl::StrCat(settings.name, ": ", MessageOf(CannotCreate(format))));
  }
  settings.format = *known_format;
  return CreateNamed(program, settings, option_string, size);
}

int RunCreate(const Program& program, int argc, char** argv) {
  Settings settings;
  std::string format = "raw";
  std::vector<std::string> option_strings;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kCreateCommand);
      case 'q':
        settings.quiet = true;
        break;
      case 'f':
        format = options.argument();
        break;
      case 'b':
        settings.backing_file = options.argument();
        break;
      case 'F':
        settings.backing_format = options.argument();
        break;
      case 'u':
        settings.ignores_backing = true;
        break;
      case 'o':
        if (!ParseOptionString(options.argument()).has_value()) {
          return program.Fail(absl::StrCat("Invalid option list: ", options.argument()));
        }
        option_strings.emplace_back(options.argument());
        break;
      default:
        return EXIT_FAILURE;
    }
  }
  const std::string option_string = absl::StrJoin(option_strings, ",");
  if (AsksForHelp(option_string)) {
    const std::optional<ImageFormat> known_format = FormatByName(format);
    if (!known_format.has_value()) return program.Fail(CannotCreate(format));
    absl::PrintF("%s", DescribeCreateOptions(*known_format, !options.rest().empty()));
    return EXIT_SUCCESS;
  }
  return CreateFromArguments(program, format, option_string, settings, options.rest());
}

}  // namespace

const Command kCreateCommand = {
    .name = "create",
    .summary = "Create and format a new image file",
    .arguments = "FILE [SIZE]",
    .options = kOptions,
    .run = RunCreate,
};

}  // namespace ringcow
