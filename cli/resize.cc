#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "cli/command.h"
#include "cli/resize_target.h"
#include "cli/sizes.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/format/options.h"

namespace ringcow {
namespace {

enum LongOnly { kPreallocation = kFirstLongOnlyKey, kShrink, kImageOptions, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'q', "quiet", nullptr, "print errors only"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {kPreallocation, "preallocation", "MODE",
     "off (default), metadata, falloc or full: what the new area is given"},
    {kShrink, "shrink", nullptr, "allow a smaller size: what is behind it is lost"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

// "64M", "+1G", "-512k".
struct SizeChange {
  char sign = '\0';
  uint64_t bytes = 0;

  // Modulo 2^64, as QEMU calculates.
  uint64_t ApplyTo(uint64_t size) const {
    if (sign == '\0') return bytes;
    return sign == '+' ? size + bytes : size - bytes;
  }
};

struct Settings {
  std::string name;
  TargetOptions target = {.format = "", .read_only = false, .force_share = false, .cache = {}};
  SizeChange change;
  Preallocation preallocation = Preallocation::kOff;
  bool may_shrink = false;
  bool quiet = false;
};

absl::StatusOr<SizeChange> ParseSizeChange(absl::string_view text) {
  SizeChange change;
  if (absl::ConsumePrefix(&text, "+")) {
    change.sign = '+';
  } else if (absl::ConsumePrefix(&text, "-")) {
    change.sign = '-';
  }
  const absl::StatusOr<uint64_t> bytes = ParseSize(text);
  if (!bytes.ok()) {
    return absl::InvalidArgumentError(
        "Parameter 'size' expects a non-negative number below 2^64\n"
        "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
        "and exabytes, respectively.");
  }
  change.bytes = *bytes;
  return change;
}

absl::Status CheckNewSize(uint64_t size, uint64_t old_size, const Settings& settings) {
  if (static_cast<int64_t>(size) <= 0) {
    return absl::InvalidArgumentError("New image size must be positive");
  }
  if (size <= old_size && settings.preallocation != Preallocation::kOff) {
    return absl::InvalidArgumentError("Preallocation can only be used for growing images");
  }
  if (size < old_size && !settings.may_shrink) {
    return absl::FailedPreconditionError("Use the --shrink option to perform a shrink operation.");
  }
  return absl::OkStatus();
}

Task<absl::Status> ResizeOpen(const Program& program, const Target& target,
                              const Settings& settings) {
  const uint64_t old_size = target.guest().size();
  const uint64_t size = settings.change.ApplyTo(old_size);
  const absl::Status allowed = CheckNewSize(size, old_size, settings);
  if (absl::IsFailedPrecondition(allowed)) {
    program.Error(MessageOf(allowed));
    co_return absl::FailedPreconditionError(
        "warning: Shrinking an image will delete all data beyond the shrunken image's end. Before "
        "performing such an operation, make sure there is no important data there.");
  }
  CO_RETURN_IF_ERROR(allowed);
  co_return co_await ResizeTarget(target, size, settings.preallocation);
}

Task<absl::Status> OpenAndResize(const Program& program, Host& host, const Settings& settings) {
  CO_ASSIGN_OR_RETURN(const Target target,
                      co_await OpenTarget(host, settings.name, settings.target));
  absl::Status status = co_await ResizeOpen(program, target, settings);
  status.Update(co_await target.guest().Close());
  co_return status;
}

absl::Status Resize(const Program& program, const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(OpenAndResize(program, *host, settings));
}

// getopt would take "-1M" for options: it is taken out of `arguments` before. (Numbers are no
// options here.)
std::optional<std::string> TakeNegativeSize(std::vector<char*>& arguments) {
  const auto found = std::find_if(arguments.begin() + 1, arguments.end(), [](const char* word) {
    return word[0] == '-' && absl::ascii_isdigit(static_cast<unsigned char>(word[1]));
  });
  if (found == arguments.end()) return std::nullopt;
  std::string size = *found;
  arguments.erase(found);
  return size;
}

// FILE and SIZE, where SIZE may have been taken out already.
absl::Status SetArguments(const std::optional<std::string>& negative_size,
                          std::span<char* const> rest, Settings& settings) {
  const size_t count = rest.size() + (negative_size.has_value() ? 1 : 0);
  if (count < 2) return absl::InvalidArgumentError("Expecting image file name and size");
  if (count > 2) return absl::InvalidArgumentError("Extra argument(s) in command line");
  settings.name = rest[0];
  return absl::OkStatus();
}

int RunResize(const Program& program, int argc, char** argv) {
  Settings settings;
  std::vector<char*> arguments(argv, argv + argc);
  const std::optional<std::string> negative_size = TakeNegativeSize(arguments);
  const auto count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  OptionParser options(program, kOptions, count, arguments.data());
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kResizeCommand);
      case 'q':
        settings.quiet = true;
        break;
      case kImageOptions:
        settings.target.image_options = true;
        break;
      case 'f':
        settings.target.format = options.argument();
        break;
      case kShrink:
        settings.may_shrink = true;
        break;
      case kPreallocation: {
        const absl::StatusOr<Preallocation> mode = ParsePreallocation(options.argument());
        if (!mode.ok()) {
          return program.Fail(
              absl::StrCat("Invalid preallocation mode '", options.argument(), "'"));
        }
        settings.preallocation = *mode;
        break;
      }
      default:
        return EXIT_FAILURE;
    }
  }
  const absl::Status set = SetArguments(negative_size, options.rest(), settings);
  if (!set.ok()) return program.Misused(MessageOf(set));
  const absl::StatusOr<SizeChange> change =
      ParseSizeChange(negative_size.has_value() ? *negative_size : options.rest()[1]);
  if (!change.ok()) return program.Fail(change.status());
  settings.change = *change;

  const absl::Status status = Resize(program, settings);
  if (!status.ok()) return program.Fail(status);
  if (!settings.quiet) absl::PrintF("Image resized.\n");
  return EXIT_SUCCESS;
}

}  // namespace

const Command kResizeCommand = {
    .name = "resize",
    .summary = "Give an image another size",
    .arguments = "FILE [+-]SIZE",
    .options = kOptions,
    .run = RunResize,
};

}  // namespace ringcow
