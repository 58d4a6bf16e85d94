#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "cli/command.h"
#include "cli/create_options.h"
#include "cli/new_image.h"
#include "cli/sizes.h"
#include "cli/target.h"
#include "engine/io_memory.h"
#include "engine/status_macros.h"
#include "qcow2/backing_name.h"
#include "qcow2/failure_reason.h"

namespace ringcow {
namespace {

enum LongOnly { kImageOptions = kFirstLongOnlyKey, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'f', "format", "FMT", "the input's format; else it is guessed"},
    {'O', "output-format", "FMT", "the output's format: raw (default) or qcow2"},
    {'U', "force-share", nullptr, "also when the input is in use elsewhere"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

struct Settings {
  TargetOptions input;
  std::string format = "raw";
  std::string input_name;
  std::string output_name;
  uint64_t block_bytes = 512;
  std::optional<uint64_t> count;  // blocks
  uint64_t skip = 0;              // blocks
};

// The part of the input that is copied, in bytes. `size` is the input's.
struct Part {
  uint64_t begin = 0;
  uint64_t bytes = 0;
};

Part PartOf(const Settings& settings, uint64_t size) {
  const auto in_bytes = [&settings, size](uint64_t blocks) {
    return blocks > size / settings.block_bytes ? size : blocks * settings.block_bytes;
  };
  // The blocks that are skipped count.
  const uint64_t end = settings.count.has_value() ? in_bytes(*settings.count) : size;
  const uint64_t begin = std::min(in_bytes(settings.skip), end);
  return {.begin = begin, .bytes = end - begin};
}

absl::Status CreateError(const Settings& settings, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrFormat("%s: error while creating output image: %s",
                                                     settings.output_name, MessageOf(status)));
}

Task<absl::Status> CreateOutput(Host& host, const Settings& settings, ImageFormat format,
                                uint64_t size) {
  CreateOptionValues values(format);
  CO_RETURN_IF_ERROR(values.Set({"size", absl::StrCat(size)}));
  CO_ASSIGN_OR_RETURN(const CreateOptions options, CreateOptionsOf(format, values));
  CO_ASSIGN_OR_RETURN(const std::string path, LocalPath(settings.output_name));
  co_return co_await CreateImageFile(host, path, format, options);
}

Task<absl::Status> Copy(GuestDisk& input, GuestDisk& output, Part part, uint64_t block_bytes) {
  // Blocks that are small are copied many at a time: what is written is the same.
  constexpr uint64_t kEnough = 2 << 20;
  const uint64_t at_once = std::max<uint64_t>(kEnough / block_bytes, 1) * block_bytes;
  CO_ASSIGN_OR_RETURN(const IoMemory memory, IoMemory::Allocate(std::min(at_once, part.bytes)));
  for (uint64_t at = 0; at < part.bytes; at += at_once) {
    const auto bytes = memory.span().first(std::min(at_once, part.bytes - at));
    CO_RETURN_IF_ERROR(FailureOf("error while reading from input image file",
                                 co_await input.Read(GuestOffset(part.begin + at), bytes)));
    CO_RETURN_IF_ERROR(FailureOf("error while writing to output image file",
                                 co_await output.Write(GuestOffset(at), bytes)));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> OpenAndCopy(const Program& program, Host& host, const Settings& settings) {
  CO_ASSIGN_OR_RETURN(const Target input,
                      co_await OpenTarget(host, settings.input_name, settings.input));
  const std::optional<ImageFormat> format = FormatByName(settings.format);
  if (!format.has_value()) co_return absl::InvalidArgumentError("Unknown file format");
  const uint64_t size = input.guest().size();
  const Part part = PartOf(settings, size);
  const absl::Status created = co_await CreateOutput(host, settings, *format, part.bytes);
  if (!created.ok()) co_return CreateError(settings, created);
  if (settings.skip > size / settings.block_bytes) {
    program.Error(absl::StrCat(settings.input_name, ": cannot skip to specified offset"));
  }
  const TargetOptions output_options = {
      .format = settings.format, .read_only = false, .force_share = false, .cache = {}};
  CO_ASSIGN_OR_RETURN(const Target output,
                      co_await OpenTarget(host, settings.output_name, output_options));
  absl::Status status = co_await Copy(input.guest(), output.guest(), part, settings.block_bytes);
  status.Update(co_await output.guest().Close());
  co_return status;
}

absl::Status Dd(const Program& program, const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(OpenAndCopy(program, *host, settings));
}

// "if=FILE" and the like.
absl::Status SetOperand(absl::string_view operand, Settings& settings) {
  constexpr uint64_t kMaxBlock = std::numeric_limits<int32_t>::max();
  constexpr uint64_t kMaxCount = std::numeric_limits<int64_t>::max();
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(operand, absl::MaxSplits('=', 1));
  const auto& [name, value] = parts;
  if (name == "if") {
    settings.input_name = std::string(value);
  } else if (name == "of") {
    settings.output_name = std::string(value);
  } else if (name == "bs") {
    ASSIGN_OR_RETURN(settings.block_bytes, ParseSizeInRange("bs", value, 1, kMaxBlock));
  } else if (name == "count") {
    ASSIGN_OR_RETURN(settings.count, ParseSizeInRange("count", value, 0, kMaxCount));
  } else if (name == "skip") {
    ASSIGN_OR_RETURN(settings.skip, ParseSizeInRange("skip", value, 0, kMaxCount));
  } else {
    return absl::InvalidArgumentError(absl::StrCat("unrecognized operand ", name));
  }
  return absl::OkStatus();
}

int RunDd(const Program& program, int argc, char** argv) {
  Settings settings;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kDdCommand);
      case kImageOptions:
        settings.input.image_options = true;
        break;
      case 'f':
        settings.input.format = options.argument();
        break;
      case 'O':
        settings.format = options.argument();
        break;
      case 'U':
        settings.input.force_share = true;
        break;
      default:
        return EXIT_FAILURE;
    }
  }
  for (const char* operand : options.rest()) {
    const absl::Status set = SetOperand(operand, settings);
    if (!set.ok()) return program.Fail(set);
  }
  if (settings.input_name.empty() || settings.output_name.empty()) {
    return program.Fail("Must specify both input and output files");
  }
  const absl::Status status = Dd(program, settings);
  return status.ok() ? EXIT_SUCCESS : program.Fail(status);
}

}  // namespace

const Command kDdCommand = {
    .name = "dd",
    .summary = "Copy a part of an image into a new one",
    .arguments = "if=FILE of=FILE [bs=SIZE] [count=BLOCKS] [skip=BLOCKS]",
    .options = kOptions,
    .run = RunDd,
};

}  // namespace ringcow
