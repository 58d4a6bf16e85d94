#ifndef RINGCOW_CLI_SNAPSHOT_CHOICE_H_
#define RINGCOW_CLI_SNAPSHOT_CHOICE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cli/target.h"
#include "qcow2/format/snapshot_table.h"

namespace ringcow {

// What -l says: an id or a name, or "snapshot.id=ID,snapshot.name=NAME".
absl::StatusOr<SnapshotChoice> ParseSnapshotChoice(absl::string_view text);

// Whether there is such a snapshot, in qemu-img's words.
absl::Status CheckSnapshotExists(const Target& target, const SnapshotChoice& choice);

}  // namespace ringcow

#endif  // RINGCOW_CLI_SNAPSHOT_CHOICE_H_
