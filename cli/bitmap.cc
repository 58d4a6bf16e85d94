#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/lost_bitmaps.h"
#include "cli/sizes.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/format/bitmap_directory.h"
#include "qcow2/format/dirty_bitmap.h"

namespace ringcow {
namespace {

enum LongOnly {
  kAdd = kFirstLongOnlyKey,
  kRemove,
  kClear,
  kEnable,
  kDisable,
  kMerge,
  kImageOptions,
  kObject
};

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {kAdd, "add", nullptr, "make a new bitmap, which follows writes"},
    {kRemove, "remove", nullptr, "remove the bitmap"},
    {kClear, "clear", nullptr, "clear all of its bits"},
    {kEnable, "enable", nullptr, "let it follow writes from now on"},
    {kDisable, "disable", nullptr, "let it follow no more writes"},
    {kMerge, "merge", "SOURCE", "set what is set in the bitmap SOURCE"},
    {'g', "granularity", "SIZE", "for --add: how many bytes a bit is for"},
    {'b', "source-file", "FILE", "for --merge: the image that SOURCE is in"},
    {'F', "source-format", "FMT", "that image's format; else it is guessed"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

struct Action {
  int key = 0;
  std::string source = {};  // of kMerge
};

struct Settings {
  std::vector<Action> actions;
  std::string name;
  std::string bitmap;
  uint64_t granularity = 0;  // 0: the default
  std::string format;
  bool image_options = false;
  std::optional<std::string> source_file;
  std::optional<std::string> source_format;

  bool Has(int key) const {
    for (const Action& action : actions) {
      if (action.key == key) return true;
    }
    return false;
  }
};

const char* NameOf(int key) {
  switch (key) {
    case kAdd:
      return "add";
    case kRemove:
      return "remove";
    case kClear:
      return "clear";
    case kEnable:
      return "enable";
    case kDisable:
      return "disable";
    default:
      return "merge";
  }
}

absl::Status NotFound(const std::string& name) {
  return absl::NotFoundError(absl::StrFormat("Dirty bitmap '%s' not found", name));
}

// `from` may be the image itself. Only qcow2 has bitmaps.
Task<absl::Status> Merge(Image* image, Image* from, const Settings& settings,
                         const std::string& source) {
  // A missing target is told before a missing source.
  if (image == nullptr) co_return NotFound(settings.bitmap);
  CO_RETURN_IF_ERROR((co_await image->ReadBitmap(settings.bitmap)).status());
  if (from == nullptr) co_return NotFound(source);
  CO_ASSIGN_OR_RETURN(const DirtyBitmap bits, co_await from->ReadBitmap(source));
  if (image->size() != from->size()) {
    co_return absl::InvalidArgumentError(
        absl::StrFormat("Bitmaps are of different sizes (destination size is %d, source size is "
                        "%d) and can't be merged",
                        image->size(), from->size()));
  }
  co_return co_await image->MergeBitmap(settings.bitmap, bits);
}

Task<absl::Status> Add(Image* image, const Settings& settings) {
  if (image == nullptr) {
    co_return absl::UnimplementedError(absl::StrFormat(
        "Can't store persistent bitmaps to %s: Operation not supported", settings.name));
  }
  uint64_t granularity = settings.granularity;
  if (granularity == 0) granularity = DefaultBitmapGranularity(image->geometry());
  // QEMU's has 32 bits, which are 0 for any larger power of two.
  if (granularity > std::numeric_limits<uint32_t>::max()) granularity = 0;
  co_return co_await image->AddBitmap(settings.bitmap, granularity, /*enabled=*/true);
}

Task<absl::Status> Act(Image* image, Image* from, const Settings& settings, const Action& action) {
  if (action.key == kAdd) co_return co_await Add(image, settings);
  if (action.key == kMerge) co_return co_await Merge(image, from, settings, action.source);
  if (image == nullptr) co_return NotFound(settings.bitmap);
  if (action.key == kRemove) co_return co_await image->RemoveBitmap(settings.bitmap);
  if (action.key == kClear) co_return co_await image->ClearBitmap(settings.bitmap);
  co_return co_await image->SetBitmapEnabled(settings.bitmap, action.key == kEnable);
}

// Up to the first that fails. What was done by then stays done.
Task<absl::Status> ActAll(Image* image, Image* from, const Settings& settings) {
  for (const Action& action : settings.actions) {
    const absl::Status status = co_await Act(image, from, settings, action);
    if (status.ok()) continue;
    co_return absl::Status(
        status.code(), absl::StrFormat("Operation %s on bitmap %s failed: %s", NameOf(action.key),
                                       settings.bitmap, MessageOf(status)));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> OpenAndAct(const Program& program, Host& host, const Settings& settings) {
  CO_ASSIGN_OR_RETURN(const Target target,
                      co_await OpenTarget(host, settings.name,
                                          {.format = settings.format,
                                           .image_options = settings.image_options,
                                           .read_only = false,
                                           .cache = {}}));
  Image* const image = target.chain().image();
  absl::Status status;
  if (settings.source_file.has_value()) {
    // Its backing file has nothing to say, and may be the image itself, locked for writing.
    const absl::StatusOr<Target> source =
        co_await OpenTarget(host, *settings.source_file,
                            {.format = settings.source_format.value_or(""),
                             .read_only = true,
                             .cache = {},
                             .without_backing = true});
    status = source.status();
    if (status.ok()) {
      status = co_await ActAll(image, source->chain().image(), settings);
      status.Update(co_await source->guest().Close());
    }
  } else {
    status = co_await ActAll(image, image, settings);
  }
  absl::Status closed = co_await target.guest().Close();
  if (const std::optional<std::string> lost = LostBitmaps(closed)) {
    program.Error(*lost);
    program.Error(kErrorWhileClosing);
    closed = absl::Status(closed.code(), *lost);
  }
  status.Update(closed);
  co_return status;
}

absl::Status RunOn(const Program& program, const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(OpenAndAct(program, *host, settings));
}

// In qemu-img's order. Empty when they fit together.
std::string Contradiction(const Settings& settings) {
  if (settings.actions.empty()) {
    return "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge";
  }
  if (settings.granularity != 0 && !settings.Has(kAdd)) {
    return "granularity only supported with --add";
  }
  if (settings.source_format.has_value() && !settings.source_file.has_value()) {
    return "-F only supported with -b";
  }
  if (settings.source_file.has_value() && !settings.Has(kMerge)) {
    return "Merge bitmap source file only supported with --merge";
  }
  return "";
}

int RunBitmap(const Program& program, int argc, char** argv) {
  Settings settings;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kBitmapCommand);
      case kAdd:
      case kRemove:
      case kClear:
      case kEnable:
      case kDisable:
        settings.actions.push_back({.key = *option});
        break;
      case kMerge:
        settings.actions.push_back({.key = kMerge, .source = options.argument()});
        break;
      case 'g': {
        const absl::StatusOr<uint64_t> size = ParseSizeInRange("granularity", options.argument(), 0,
                                                               std::numeric_limits<int64_t>::max());
        if (!size.ok()) return program.Fail(size.status());
        settings.granularity = *size;
        break;
      }
      case 'b':
        settings.source_file = options.argument();
        break;
      case 'F':
        settings.source_format = options.argument();
        break;
      case kImageOptions:
        settings.image_options = true;
        break;
      case 'f':
        settings.format = options.argument();
        break;
      default:
        return EXIT_FAILURE;
    }
  }
  if (const std::string wrong = Contradiction(settings); !wrong.empty()) return program.Fail(wrong);
  if (options.rest().size() != 2) return program.Fail("Expecting filename and bitmap name");
  settings.name = options.rest()[0];
  settings.bitmap = options.rest()[1];
  const absl::Status status = RunOn(program, settings);
  return status.ok() ? EXIT_SUCCESS : program.Fail(status);
}

}  // namespace

const Command kBitmapCommand = {
    .name = "bitmap",
    .summary = "Change the persistent dirty bitmaps of an image",
    .arguments = "FILE BITMAP",
    .options = kOptions,
    .run = RunBitmap,
};

}  // namespace ringcow
