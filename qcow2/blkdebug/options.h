#ifndef RINGCOW_QCOW2_BLKDEBUG_OPTIONS_H_
#define RINGCOW_QCOW2_BLKDEBUG_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qcow2/blkdebug/rules.h"
#include "qcow2/image_description.h"

namespace ringcow {

// What the disk pretends to be able to do. Bytes; 0: as much as the one below it.
struct DebugLimits {
  uint64_t align = 0;  // a power of two, of all requests
  uint64_t max_transfer = 0;
  // What is no whole number of these is written as zeroes, or not discarded.
  uint64_t opt_write_zero = 0;
  uint64_t max_write_zero = 0;
  uint64_t opt_discard = 0;
  uint64_t max_discard = 0;

  // InvalidArgument in QEMU's words for what no request could meet, above a disk that takes
  // multiples of `alignment` only.
  absl::Status Validate(uint64_t alignment) const;
};

// How long the first piece of a request is that may have `max` bytes (0: any number), in whole
// units: as much of them as there is, or what goes before or behind them.
uint64_t FirstPiece(uint64_t offset, uint64_t length, uint64_t unit, uint64_t max);

struct BlkdebugOptions {
  std::string config = {};  // a file of more rules; empty: there is none
  DebugRules rules = {};
  DebugLimits limits = {};
  std::map<std::string, std::string> given = {};  // all but `config`, as they were said
};

// Takes out what is about blkdebug itself, not what it lies on ("image"). InvalidArgument and
// Unimplemented in QEMU's words.
absl::StatusOr<BlkdebugOptions> TakeBlkdebugOptions(ImageDescription& options);

// The rules of a file in QEMU's form of config files, of groups of `key = "value"`. Errors as
// above.
absl::StatusOr<DebugRules> ParseDebugConfig(absl::string_view text);

// All rules: those of the options and, before them, those of the file that they name.
absl::StatusOr<DebugRules> LoadDebugRules(const BlkdebugOptions& options);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BLKDEBUG_OPTIONS_H_
