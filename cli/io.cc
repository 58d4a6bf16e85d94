#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/guessed_raw.h"
#include "cli/io/session.h"
#include "cli/target.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

enum LongOnly { kImageOptions = kFirstLongOnlyKey, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'V', "version", nullptr, "print the version and exit"},
    {'c', "cmd", "COMMAND", "carry out COMMAND; several are carried out in turn"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {'r', "read-only", nullptr, "open the image for reading"},
    {'n', "nocache", nullptr, "short for -t none"},
    {'t', "cache", "MODE", "writethrough (default), none, writeback, directsync or unsafe"},
    {'i', "aio", "MODE", "threads, native or io_uring: names only, all are io_uring"},
    {'U', "force-share", nullptr, "also when the image is in use elsewhere"},
    {'s', "snapshot", nullptr, nullptr, "is not supported yet"},
    {'C', "copy-on-read", nullptr, nullptr, "is not supported yet"},
    {'m', "misalign", nullptr, nullptr, "is not supported"},
    {'k', "native-aio", nullptr, nullptr, "is not supported: all I/O goes through io_uring"},
    {'d', "discard", "MODE", nullptr, "is not supported yet"},
    {'T', "trace", "TRACE", nullptr, "is not supported: there are no trace events"},
    {kImageOptions, "image-opts", nullptr, nullptr, "is not supported yet"},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

struct Settings {
  std::optional<std::string> name;
  // As qemu-io, which is for tests: what it reports as written is durable.
  TargetOptions target = {
      .format = "", .read_only = false, .force_share = false, .cache = {.writethrough = true}};
  std::vector<std::string> commands;
};

absl::Status SetOption(int key, const char* argument, Settings& settings) {
  switch (key) {
    case 'c':
      settings.commands.emplace_back(argument);
      break;
    case 'f':
      settings.target.format = argument;
      break;
    case 'r':
      settings.target.read_only = true;
      break;
    case 'n':
      settings.target.cache = {.direct = true};
      break;
    case 't': {
      const std::optional<CachePolicy> policy = ParseCacheMode(argument);
      if (!policy.has_value()) {
        return absl::InvalidArgumentError(absl::StrCat("Invalid cache option: ", argument));
      }
      settings.target.cache = *policy;
      break;
    }
    case 'i': {
      // Unlike for a measurement, it makes no difference to anything that a test can see.
      const std::string mode = argument;
      if (mode != "threads" && mode != "native" && mode != "io_uring") {
        return absl::InvalidArgumentError(absl::StrCat("Invalid aio option: ", argument));
      }
      break;
    }
    case 'U':
      settings.target.force_share = true;
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

// The image that the command line names, if it names one.
Task<absl::StatusOr<std::optional<Target>>> OpenNamed(Host& host, const Settings& settings) {
  if (!settings.name.has_value()) co_return std::nullopt;
  absl::StatusOr<Target> target = co_await Target::Open(host, *settings.name, settings.target);
  if (!target.ok()) {
    co_return absl::Status(
        target.status().code(),
        absl::StrFormat("can't open device %s: %s", *settings.name, MessageOf(target.status())));
  }
  if (target->file().guessed_raw() && !settings.target.read_only) {
    WarnAboutGuessedRaw(*settings.name);
  }
  co_return *std::move(target);
}

Task<absl::StatusOr<bool>> RunSession(const Program& program, Host& host,
                                      const Settings& settings) {
  CO_ASSIGN_OR_RETURN(std::optional<Target> target, co_await OpenNamed(host, settings));
  Session session(program, host, std::move(target), settings.target.read_only);
  bool all_well = true;
  for (const std::string& command : settings.commands) {
    if (!session.has_quit()) all_well &= co_await session.Execute(command);
  }
  if (settings.commands.empty()) all_well = co_await session.ExecuteStdin();
  CO_RETURN_IF_ERROR(co_await session.End());
  co_return all_well;
}

absl::StatusOr<bool> Io(const Program& program, const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(RunSession(program, *host, settings));
}

int RunIo(const Program& program, int argc, char** argv) {
  Settings settings;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    if (*option == 'h') return PrintHelp(program, kIoCommand);
    if (*option == 'V') return PrintVersion(program);
    if (*option == kBadOption) return EXIT_FAILURE;
    const absl::Status set = SetOption(*option, options.argument(), settings);
    if (!set.ok()) return program.Fail(set);
  }
  if (options.rest().size() > 1) return program.Misused("Expecting at most one image file name");
  if (!options.rest().empty()) settings.name = options.rest()[0];

  const absl::StatusOr<bool> all_well = Io(program, settings);
  if (!all_well.ok()) return program.Fail(all_well.status());
  return *all_well ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

const Command kIoCommand = {
    .name = "io",
    .summary = "Read and write an image, command by command",
    .arguments = "[FILE]",
    .options = kOptions,
    .run = RunIo,
};

}  // namespace ringcow
