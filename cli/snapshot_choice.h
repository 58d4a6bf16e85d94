#ifndef RINGCOW_CLI_SNAPSHOT_CHOICE_H_
#define RINGCOW_CLI_SNAPSHOT_CHOICE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cli/program.h"
#include "cli/target.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/image.h"

namespace ringcow {

// What -l says: an id or a name, or "snapshot.id=ID,snapshot.name=NAME".
absl::StatusOr<SnapshotChoice> ParseSnapshotChoice(absl::string_view text);

// Whether there is such a snapshot that can be opened, in qemu-img's words.
absl::Status CheckSnapshotExists(const Target& target, const SnapshotChoice& choice);

// Says, as an error of the program, why nothing can be done with this snapshot of `image`, if that
// is so. The status is then an errno in words, which is how qemu-img goes on.
absl::Status CheckSnapshotUsable(const Program& program, const Image& image,
                                 const Snapshot& snapshot);

}  // namespace ringcow

#endif  // RINGCOW_CLI_SNAPSHOT_CHOICE_H_
