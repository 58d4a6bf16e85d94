#ifndef RINGCOW_CLI_CONVERT_SETTINGS_H_
#define RINGCOW_CLI_CONVERT_SETTINGS_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/options.h"
#include "cli/target.h"
#include "qcow2/copy_loop.h"

namespace ringcow {

// What one run of `convert` is to do.
struct ConvertSettings {
  std::vector<std::string> sources;
  TargetOptions source;
  std::string target_name;
  TargetOptions target = {
      .format = "", .read_only = false, .force_share = false, .cache = {.no_flush = true}};
  std::optional<std::string> given_format;
  std::vector<std::string> option_strings;
  std::optional<std::string> backing;
  std::optional<std::string> backing_format;
  std::optional<SnapshotChoice> snapshot;
  bool creates = true;
  bool offloads = false;  // -C: what the host can copy into a raw target is left to it
  bool salvages = false;
  bool copies_bitmaps = false;
  bool skips_broken_bitmaps = false;
  bool target_is_zero = false;
  bool has_sparse_size = false;
  bool compresses = false;
  bool quiet = false;
  bool progress = false;
  CopyOptions copy;

  std::string format() const { return given_format.value_or("raw"); }
};

// The options of `convert`.
std::span<const OptionSpec> ConvertOptions();
// Takes one of them; errors in QEMU's words.
absl::Status SetConvertOption(int key, const char* argument, ConvertSettings& settings);
// Whether they go together.
absl::Status CheckConvertSettings(const ConvertSettings& settings);
// "-o help"
bool AsksForHelp(const ConvertSettings& settings);

}  // namespace ringcow

#endif  // RINGCOW_CLI_CONVERT_SETTINGS_H_
