#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/io/open_options.h"
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
    {'d', "discard", "MODE", "unmap (default) or on, ignore or off: what becomes of free space"},
    {'U', "force-share", nullptr, "also when the image is in use elsewhere"},
    {'s', "snapshot", nullptr,
     "keep the image as it is: what is written goes to a temporary overlay"},
    {'C', "copy-on-read", nullptr, "copy what is read from a backing file into the image"},
    {'m', "misalign", nullptr, nullptr, "is not supported"},
    {'k', "native-aio", nullptr, nullptr, "is not supported: all I/O goes through io_uring"},
    {'T', "trace", "TRACE", nullptr, "is not supported: there are no trace events"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

struct Settings {
  std::optional<std::string> name;
  TargetOptions target = DefaultOpenOptions();
  std::vector<std::string> commands;
};

Task<absl::StatusOr<bool>> RunSession(const Program& program, Host& host,
                                      const Settings& settings) {
  Session session(program, host);
  if (settings.name.has_value()) {
    CO_RETURN_IF_ERROR(co_await session.Open(*settings.name, settings.target));
  }
  bool all_well = true;
  for (const std::string& command : settings.commands) {
    if (!session.has_quit()) all_well &= co_await session.Execute(command);
  }
  if (settings.commands.empty()) all_well = co_await session.ExecuteStdin();
  CO_RETURN_IF_ERROR(co_await session.Close());
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
    if (*option == 'c') {
      settings.commands.emplace_back(options.argument());
    } else if (*option == 'f') {
      settings.target.format = options.argument();
    } else if (*option == kImageOptions) {
      settings.target.image_options = true;
    }
    const absl::Status set = SetOpenOption(*option, options.argument(), settings.target);
    if (!set.ok()) return program.Fail(set);
  }
  if (options.rest().size() > 1) return program.Misused("Expecting at most one image file name");
  if (!options.rest().empty()) settings.name = options.rest()[0];

  if (settings.target.image_options && !settings.target.format.empty()) {
    return program.Fail("--image-opts and -f are mutually exclusive");
  }
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
