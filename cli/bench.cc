#include <chrono>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/bench_run.h"
#include "cli/command.h"
#include "cli/guessed_raw.h"
#include "cli/sizes.h"
#include "cli/target.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

enum LongOnly { kPattern = kFirstLongOnlyKey, kFlushInterval, kNoDrain, kImageOptions };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'q', "quiet", nullptr, "changes nothing, as in qemu-img bench"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {'t', "cache", "MODE", "none, writeback (default), writethrough, directsync or unsafe"},
    {'c', "count", "COUNT", "number of requests (default: 75000)"},
    {'d', "depth", "DEPTH", "requests under way at a time (default: 64)"},
    {'s', "buffer-size", "SIZE", "bytes of a request (default: 4096)"},
    {'S', "step-size", "SIZE", "from one request to the next (default: a request's size)"},
    {'o', "offset", "OFFSET", "of the first request"},
    {'w', "write", nullptr, "write instead of reading"},
    {kPattern, "pattern", "BYTE", "what is written (default: 0)"},
    {kFlushInterval, "flush-interval", "COUNT", "flush after every COUNT requests"},
    {kNoDrain, "no-drain", nullptr, "go on with requests during a flush"},
    {'i', "aio", "io_uring", "how to do I/O: there is one way"},
    {'n', "native", nullptr, "native AIO if possible; here it is io_uring always"},
    {'U', "force-share", nullptr, "also when the image is in use elsewhere"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
};

constexpr uint64_t kMaxInt = std::numeric_limits<int>::max();

struct Settings {
  std::string name;
  TargetOptions target;
  BenchPattern pattern;
};

absl::Status SetSize(uint64_t& size, absl::string_view what, absl::string_view text, uint64_t min,
                     uint64_t max) {
  ASSIGN_OR_RETURN(size, ParseSizeInRange(what, text, min, max));
  return absl::OkStatus();
}

absl::Status SetNumber(uint64_t& number, absl::string_view what, absl::string_view text,
                       uint64_t min, uint64_t max) {
  ASSIGN_OR_RETURN(number, ParseNumberInRange(what, text, min, max));
  return absl::OkStatus();
}

absl::Status SetAio(absl::string_view name) {
  if (name == "io_uring") return absl::OkStatus();
  if (name == "threads" || name == "native") {
    return absl::UnimplementedError(
        absl::StrFormat("aio=%s is not supported: all I/O goes through io_uring", name));
  }
  return absl::InvalidArgumentError(absl::StrCat("Invalid aio option: ", name));
}

absl::Status SetOption(int key, const char* argument, Settings& settings) {
  BenchPattern& pattern = settings.pattern;
  switch (key) {
    case kImageOptions:
      settings.target.image_options = true;
      break;
    case 'f':
      settings.target.format = argument;
      break;
    case 't': {
      const std::optional<CachePolicy> policy = ParseCacheMode(argument);
      if (!policy.has_value()) return absl::InvalidArgumentError("Invalid cache mode");
      settings.target.cache = *policy;
      break;
    }
    case 'c':
      return SetNumber(pattern.count, "request count", argument, 1, kMaxInt);
    case 'd':
      return SetNumber(pattern.depth, "queue depth", argument, 1, kMaxInt);
    case 's':
      return SetSize(pattern.size, "buffer size", argument, 1, kMaxInt);
    case 'S':
      return SetSize(pattern.step, "step size", argument, 0, kMaxInt);
    case 'o':
      return SetSize(pattern.offset, "offset", argument, 0, std::numeric_limits<int64_t>::max());
    case 'w':
      pattern.write = true;
      settings.target.read_only = false;
      break;
    case kPattern: {
      uint64_t byte = 0;
      RETURN_IF_ERROR(SetNumber(byte, "pattern byte", argument, 0, 0xff));
      pattern.byte = static_cast<uint8_t>(byte);
      break;
    }
    case kFlushInterval:
      return SetNumber(pattern.flush_interval, "flush interval", argument, 0, kMaxInt);
    case kNoDrain:
      pattern.drain = false;
      break;
    case 'i':
      return SetAio(argument);
    case 'U':
      settings.target.force_share = true;
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

absl::Status CheckPattern(const BenchPattern& pattern) {
  if (pattern.flush_interval == 0) return absl::OkStatus();
  if (!pattern.write) {
    return absl::InvalidArgumentError("--flush-interval is only available in write tests");
  }
  if (pattern.flush_interval < pattern.depth) {
    return absl::InvalidArgumentError("Flush interval can't be smaller than depth");
  }
  return absl::OkStatus();
}

void Announce(const BenchPattern& pattern) {
  absl::PrintF(
      "Sending %d %s requests, %d bytes each, %d in parallel (starting at offset %d, step size "
      "%d)\n",
      pattern.count, pattern.write ? "write" : "read", pattern.size, pattern.depth, pattern.offset,
      pattern.step == 0 ? pattern.size : pattern.step);
  if (pattern.flush_interval > 0) {
    absl::PrintF("Sending flush every %d requests\n", pattern.flush_interval);
  }
  (void)std::fflush(stdout);
}

void SayWhatIsMissing(const Program& program, const Host& host, const ImageFile& file) {
  for (const std::string& notice : host.rings->notices()) program.Error(notice);
  const UringDisk* const host_file = file.host().outermost_file();
  if (host_file != nullptr && !host_file->notice().empty()) program.Error(host_file->notice());
}

Task<absl::Status> Measure(Loop& loop, GuestDisk& disk, const Settings& settings) {
  BenchRun run(loop, disk, settings.pattern);
  CO_RETURN_IF_ERROR(run.Prepare());
  Announce(settings.pattern);
  const auto begin = std::chrono::steady_clock::now();
  CO_RETURN_IF_ERROR(co_await run.Run());
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  absl::PrintF("Run completed in %3.3f seconds.\n", elapsed.count());
  co_return absl::OkStatus();
}

Task<absl::Status> OpenAndMeasure(const Program& program, Host& host, const Settings& settings) {
  absl::StatusOr<Target> target = co_await Target::Open(host, settings.name, settings.target);
  if (!target.ok()) co_return CouldNotOpen(settings.name, settings.target, target.status());
  if (target->file().guessed_raw() && settings.pattern.write) WarnAboutGuessedRaw(settings.name);
  SayWhatIsMissing(program, host, target->file());
  absl::Status status = co_await Measure(host.loop, target->guest(), settings);
  status.Update(co_await target->guest().Close());
  co_return status;
}

absl::Status Bench(const Program& program, const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(OpenAndMeasure(program, *host, settings));
}

int RunBench(const Program& program, int argc, char** argv) {
  Settings settings;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    if (*option == 'h') return PrintHelp(program, kBenchCommand);
    if (*option == kBadOption) return EXIT_FAILURE;
    const absl::Status set = SetOption(*option, options.argument(), settings);
    if (!set.ok()) return program.Fail(set);
  }
  if (options.rest().size() != 1) return program.Misused("Expecting one image file name");
  settings.name = options.rest()[0];
  if (const absl::Status valid = CheckPattern(settings.pattern); !valid.ok()) {
    return program.Fail(valid);
  }
  const absl::Status status = Bench(program, settings);
  return status.ok() ? EXIT_SUCCESS : program.Fail(status);
}

}  // namespace

const Command kBenchCommand = {
    .name = "bench",
    .summary = "Measure how fast an image can be read or written",
    .arguments = "FILE",
    .options = kOptions,
    .run = RunBench,
};

}  // namespace ringcow
