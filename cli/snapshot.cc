#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/guessed_raw.h"
#include "cli/snapshot_choice.h"
#include "cli/snapshot_list.h"
#include "cli/target.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/failure_reason.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/leak.h"

namespace ringcow {
namespace {

enum LongOnly { kImageOptions = kFirstLongOnlyKey, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'l', "list", nullptr, "list the snapshots (the default)"},
    {'c', "create", "SNAPSHOT", "create a snapshot of this name"},
    {'a', "apply", "SNAPSHOT", "make the disk what it was; by id or name"},
    {'d', "delete", "SNAPSHOT", "delete a snapshot, by name"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {'q', "quiet", nullptr, "print errors only"},
    {'U', "force-share", nullptr, "also when the image is in use elsewhere; for the list only"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

struct Settings {
  char action = '\0';  // the option's letter; none: the list
  std::string snapshot;
  std::string name;
  TargetOptions target;
};

Snapshot NewSnapshot(const std::string& name) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
  Snapshot snapshot;
  // qemu-img cuts off what its tools could not name.
  snapshot.name = name.substr(0, kMaxSnapshotNameBytes);
  snapshot.date_seconds = static_cast<uint32_t>(seconds.count());
  snapshot.date_nanoseconds = static_cast<uint32_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now - seconds).count());
  snapshot.icount = 0;
  return snapshot;
}

absl::Status Failed(const char* what, const Settings& settings, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrFormat("Could not %s snapshot '%s': %s", what,
                                                     settings.snapshot, MessageOf(status)));
}

Task<absl::Status> CreateOne(Image* image, const Settings& settings) {
  if (image == nullptr || image->header().external_data()) {
    co_return absl::UnimplementedError(std::strerror(ENOTSUP));
  }
  const absl::Status status = co_await image->CreateSnapshot(NewSnapshot(settings.snapshot));
  if (status.ok()) co_return status;
  // QEMU's words are those of an errno, also where refcounts are too narrow.
  const bool is_too_narrow = absl::IsOutOfRange(status) && !HasErrno(status);
  co_return absl::Status(status.code(),
                         is_too_narrow ? std::strerror(EINVAL) : FailureReason(status));
}

Task<absl::Status> ApplyOne(const Program& program, Image* image, const Settings& settings) {
  if (image == nullptr) {
    co_return absl::UnimplementedError("Block driver does not support snapshots");
  }
  if (image->header().external_data()) {
    co_return absl::UnimplementedError(
        absl::StrFormat("Failed to load snapshot: %s", std::strerror(ENOTSUP)));
  }
  const std::optional<size_t> index = FindSnapshotByIdOrName(image->snapshots(), settings.snapshot);
  if (!index.has_value()) {
    co_return absl::NotFoundError("Failed to load snapshot: No such file or directory");
  }
  const Snapshot& snapshot = image->snapshots()[*index];
  const absl::Status usable = CheckSnapshotUsable(program, *image, snapshot);
  if (!usable.ok()) {
    co_return absl::Status(usable.code(),
                           absl::StrCat("Failed to load snapshot: ", MessageOf(usable)));
  }
  const absl::Status applied = co_await image->ApplySnapshot(*index);
  if (!IsLeaking(applied)) co_return applied;
  program.Error(absl::StrCat("What was before is given up, but for clusters that are leaked: ",
                             FailureReason(applied)));
  co_return absl::OkStatus();
}

Task<absl::Status> DeleteOne(Image* image, const Settings& settings) {
  const std::optional<size_t> index =
      image == nullptr ? std::nullopt : FindSnapshotByName(image->snapshots(), settings.snapshot);
  if (!index.has_value()) co_return absl::NotFoundError("snapshot not found");
  CO_RETURN_IF_ERROR(ValidateSnapshotL1Table(image->snapshots()[*index], image->geometry()));
  const absl::Status status = co_await image->DeleteSnapshot(*index);
  if (!IsLeaking(status)) co_return status;
  // The function of QEMU's that says so, but of a corruption, which was told.
  if (!WasTold(status)) {
    absl::FPrintF(stderr, "qcow2_free_clusters failed: %s\n", FailureReason(status));
  }
  co_return FailureOf("Failed to free the cluster and L1 table", status);
}

Task<absl::Status> Act(const Program& program, Image* image, const Settings& settings) {
  switch (settings.action) {
    case 'c':
      co_return Failed("create", settings, co_await CreateOne(image, settings));
    case 'a':
      co_return Failed("apply", settings, co_await ApplyOne(program, image, settings));
    case 'd':
      co_return Failed("delete", settings, co_await DeleteOne(image, settings));
    default:
      if (image == nullptr) co_return absl::OkStatus();
      for (const std::string& line : SnapshotLines(image->snapshots())) {
        absl::PrintF("%s\n", line);
      }
      co_return absl::OkStatus();
  }
}

Task<absl::Status> OpenAndAct(const Program& program, Host& host, const Settings& settings) {
  absl::StatusOr<Target> target = co_await Target::Open(host, settings.name, settings.target);
  if (!target.ok()) co_return CouldNotOpen(settings.name, settings.target, target.status());
  if (target->file().guessed_raw() && !settings.target.read_only) {
    WarnAboutGuessedRaw(settings.name);
  }
  absl::Status status = co_await Act(program, target->chain().image(), settings);
  status.Update(co_await target->guest().Close());
  co_return status;
}

absl::Status RunOn(const Program& program, const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(OpenAndAct(program, *host, settings));
}

int RunSnapshot(const Program& program, int argc, char** argv) {
  Settings settings;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kSnapshotCommand);
      case 'l':
      case 'c':
      case 'a':
      case 'd':
        if (settings.action != '\0') return program.Misused("Cannot mix '-l', '-a', '-c', '-d'");
        settings.action = static_cast<char>(*option);
        if (*option != 'l') settings.snapshot = options.argument();
        break;
      case kImageOptions:
        settings.target.image_options = true;
        break;
      case 'f':
        settings.target.format = options.argument();
        break;
      case 'q':  // nothing is said but errors and the list, as in QEMU
        break;
      case 'U':
        settings.target.force_share = true;
        break;
      default:
        return EXIT_FAILURE;
    }
  }
  if (options.rest().size() != 1) return program.Misused("Expecting one image file name");
  settings.name = options.rest()[0];
  settings.target.read_only = settings.action == '\0' || settings.action == 'l';
  const absl::Status status = RunOn(program, settings);
  return status.ok() ? EXIT_SUCCESS : program.Fail(status);
}

}  // namespace

const Command kSnapshotCommand = {
    .name = "snapshot",
    .summary = "List, create, apply and delete the snapshots in an image",
    .arguments = "FILE",
    .options = kOptions,
    .run = RunSnapshot,
};

}  // namespace ringcow
