#ifndef RINGCOW_CLI_SNAPSHOT_LIST_H_
#define RINGCOW_CLI_SNAPSHOT_LIST_H_

#include <span>
#include <string>
#include <vector>

#include "qcow2/format/snapshot_table.h"

namespace ringcow {

// A line for each snapshot, behind a head line. Nothing for no snapshots.
std::vector<std::string> SnapshotLines(std::span<const Snapshot> snapshots);

}  // namespace ringcow

#endif  // RINGCOW_CLI_SNAPSHOT_LIST_H_
