#ifndef RINGCOW_CLI_IO_OPEN_OPTIONS_H_
#define RINGCOW_CLI_IO_OPEN_OPTIONS_H_

#include "absl/status/status.h"
#include "cli/target.h"

namespace ringcow {

// How qemu-io, which is for tests, opens an image unless it is told otherwise: what it reports as
// written is durable.
inline TargetOptions DefaultOpenOptions() {
  return {.format = "", .read_only = false, .force_share = false, .cache = {.writethrough = true}};
}

// The options that qemu-io and its `open` have in common: r, n, t, i, d, s and U. Others change
// nothing.
absl::Status SetOpenOption(int key, const char* argument, TargetOptions& options);

// -o: "name=value,name=value".
absl::Status SetDriverOptions(const char* text, TargetOptions& options);

}  // namespace ringcow

#endif  // RINGCOW_CLI_IO_OPEN_OPTIONS_H_
