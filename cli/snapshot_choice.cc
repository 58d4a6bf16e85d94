#include "cli/snapshot_choice.h"

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/option_string.h"

namespace ringcow {

absl::StatusOr<SnapshotChoice> ParseSnapshotChoice(absl::string_view text) {
  SnapshotChoice choice;
  if (!absl::StartsWith(text, "snapshot.")) {
    choice.id_or_name = std::string(text);
    return choice;
  }
  const auto given = ParseOptionString(text);
  if (!given.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Failed in parsing snapshot param '%s'", text));
  }
  for (const NamedValue& option : *given) {
    if (option.name == "snapshot.id") {
      choice.id = option.value.value_or("");
    } else if (option.name == "snapshot.name") {
      choice.name = option.value.value_or("");
    } else {
      return absl::InvalidArgumentError(absl::StrCat("Invalid parameter '", option.name, "'"));
    }
  }
  return choice;
}

absl::Status CheckSnapshotExists(const Target& target, const SnapshotChoice& choice) {
  const Image* image = target.chain().image();
  if (image == nullptr) {
    return absl::UnimplementedError(
        "Failed to load snapshot: Block format 'raw' used by device '' does not support "
        "temporarily loading internal snapshots");
  }
  const std::optional<size_t> index = FindSnapshot(image->snapshots(), choice);
  if (!index.has_value()) {
    return absl::NotFoundError("Failed to load snapshot: Can't find snapshot");
  }
  const absl::Status usable =
      ValidateSnapshotL1Table(image->snapshots()[*index], image->geometry());
  if (usable.ok()) return absl::OkStatus();
  return absl::Status(usable.code(), absl::StrCat("Failed to load snapshot: ", MessageOf(usable)));
}

absl::Status CheckSnapshotUsable(const Program& program, const Image& image,
                                 const Snapshot& snapshot) {
  const absl::Status usable = ValidateSnapshotL1Table(snapshot, image.geometry());
  if (usable.ok()) return absl::OkStatus();
  program.Error(MessageOf(usable));
  return absl::Status(usable.code(), std::strerror(absl::IsOutOfRange(usable) ? EFBIG : EINVAL));
}

}  // namespace ringcow
