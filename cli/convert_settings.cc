#include "cli/convert_settings.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/create_options.h"
#include "cli/sizes.h"
#include "cli/snapshot_choice.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

enum LongOnly {
  kSourceImageOptions = kFirstLongOnlyKey,
  kTargetImageOptions,
  kTargetIsZero,
  kBitmaps,
  kSkipBrokenBitmaps,
  kSalvage,
  kObject,
};

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'q', "quiet", nullptr, "print errors only"},
    {'p', "progress", nullptr, "show how far it has come"},
    {'f', "source-format", "FMT", "the sources' format; else it is guessed"},
    {'O', "target-format", "FMT", "the target's format: raw (default) or qcow2"},
    {'o', "target-options", "OPTIONS", "NAME=VALUE[,...] for the target; '-o help' lists them"},
    {'l', "source-snapshot", "SNAPSHOT",
     "the source as it was at a snapshot: its id or name, or snapshot.id=ID,snapshot.name=NAME"},
    {'T', "source-cache", "MODE", "the sources' cache mode: writeback (default), none, ..."},
    {'t', "target-cache", "MODE", "the target's cache mode: unsafe (default), none, ..."},
    {'B', "backing", "FILE",
     "the target's backing file; it holds what the source's backing file holds"},
    {'F', "backing-format", "FMT", "the backing file's format"},
    {'n', "no-create", nullptr, "write to a target that is there already"},
    {kTargetIsZero, "target-is-zero", nullptr, "with -n: it reads as zeroes"},
    {'S', "sparse-size", "SIZE",
     "zeroes of so many bytes need no space (default 4k); 0: write them all"},
    {'U', "force-share", nullptr, "also when a source is in use elsewhere"},
    {'m', "parallel", "NUMBER", "requests under way, 1 to 16 (default 8)"},
    {'W', "oob-writes", nullptr, "write in any order"},
    {'c', "compress", nullptr, "store the data compressed, on several threads (qcow2 only)"},
    {'r', "rate", "RATE", "copy at most so many bytes a second; 0: as many as can be"},
    {'C', "copy-range-offloading", nullptr,
     "let the host copy into a raw target what it can by itself, zeroes and all"},
    {kBitmaps, "bitmaps", nullptr, "copy the source's persistent bitmaps, too"},
    {kSkipBrokenBitmaps, "skip-broken-bitmaps", nullptr, "with --bitmaps: but for broken ones"},
    {kSalvage, "salvage", nullptr, "write zeroes for what cannot be read, and go on"},
    {kSourceImageOptions, "source-image-opts", nullptr, kImageOptionsHelp},
    {kSourceImageOptions, "image-opts", nullptr, "the same"},
    {kTargetImageOptions, "target-image-opts", nullptr, "with -n: TARGET is such a list"},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

absl::Status SetSparseSize(const char* text, CopyOptions& copy) {
  constexpr uint64_t kMaxSparse = 16 << 20;
  ASSIGN_OR_RETURN(copy.min_zeroes, ParseSizeInRange("buffer size for sparse output", text, 0,
                                                     std::numeric_limits<int64_t>::max()));
  if (IsAligned(copy.min_zeroes, kSectorBytes) && copy.min_zeroes <= kMaxSparse) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "Invalid buffer size for sparse output specified. Valid sizes are multiples of %d up to %d. "
      "Select 0 to disable sparse detection (fully allocates output).",
      kSectorBytes, kMaxSparse));
}

absl::Status CheckOffloading(const ConvertSettings& settings) {
  if (!settings.offloads) return absl::OkStatus();
  if (settings.compresses) {
    return absl::InvalidArgumentError("Cannot enable copy offloading when -c is used");
  }
  if (settings.has_sparse_size) {
    return absl::InvalidArgumentError("Cannot enable copy offloading when -S is used");
  }
  if (settings.salvages) {
    return absl::InvalidArgumentError("Cannot use copy offloading in salvaging mode");
  }
  return absl::OkStatus();
}

}  // namespace

std::span<const OptionSpec> ConvertOptions() { return kOptions; }

absl::Status SetConvertOption(int key, const char* argument, ConvertSettings& settings) {
  switch (key) {
    case 'q':
      settings.quiet = true;
      break;
    case 'p':
      settings.progress = true;
      break;
    case 'f':
      settings.source.format = argument;
      break;
    case 'O':
      settings.given_format = argument;
      break;
    case 'o':
      if (!ParseOptionString(argument).has_value()) {
        return absl::InvalidArgumentError(absl::StrCat("Invalid option list: ", argument));
      }
      settings.option_strings.emplace_back(argument);
      break;
    case 'l': {
      ASSIGN_OR_RETURN(settings.snapshot, ParseSnapshotChoice(argument));
      break;
    }
    case 'T':
      return SetCacheMode("source cache", argument, settings.source.cache);
    case 't':
      return SetCacheMode("cache", argument, settings.target.cache);
    case 'B':
      settings.backing = argument;
      break;
    case 'F':
      settings.backing_format = argument;
      break;
    case 'r': {
      ASSIGN_OR_RETURN(
          settings.copy.bytes_per_second,
          ParseSizeInRange("rate limit", argument, 0, std::numeric_limits<int64_t>::max()));
      break;
    }
    case 'C':
      settings.offloads = true;
      break;
    case kSalvage:
      settings.salvages = true;
      break;
    case kBitmaps:
      settings.copies_bitmaps = true;
      break;
    case kSkipBrokenBitmaps:
      settings.skips_broken_bitmaps = true;
      break;
    case kSourceImageOptions:
      settings.source.image_options = true;
      break;
    case kTargetImageOptions:
      settings.target.image_options = true;
      break;
    case 'n':
      settings.creates = false;
      break;
    case kTargetIsZero:
      settings.target_is_zero = true;
      break;
    case 'S':
      settings.has_sparse_size = true;
      return SetSparseSize(argument, settings.copy);
    case 'U':
      settings.source.force_share = true;
      break;
    case 'm': {
      ASSIGN_OR_RETURN(const uint64_t number,
                       ParseNumberInRange("number of coroutines", argument, 1, 16));
      settings.copy.parallel = static_cast<unsigned>(number);
      break;
    }
    case 'c':
      settings.compresses = true;
      break;
    case 'W':
      settings.copy.out_of_order = true;
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

bool AsksForHelp(const ConvertSettings& settings) {
  return std::ranges::any_of(settings.option_strings, [](const std::string& text) {
    return AsksForHelp(ParseOptionString(text).value_or(std::vector<NamedValue>()));
  });
}

absl::Status CheckConvertSettings(const ConvertSettings& settings) {
  if (settings.skips_broken_bitmaps && !settings.copies_bitmaps) {
    return absl::InvalidArgumentError("Use of --skip-broken-bitmaps requires --bitmaps");
  }
  if (settings.creates && settings.target.image_options) {
    return absl::InvalidArgumentError("--target-image-opts requires use of -n flag");
  }
  RETURN_IF_ERROR(CheckOffloading(settings));
  if (!settings.creates && !settings.option_strings.empty()) {
    return absl::InvalidArgumentError("-o has no effect when skipping image creation");
  }
  if (settings.sources.empty()) return absl::InvalidArgumentError("Must specify image file name");
  if (settings.target_is_zero && settings.creates) {
    return absl::InvalidArgumentError("--target-is-zero requires use of -n flag");
  }
  if (settings.copies_bitmaps && settings.sources.size() > 1) {
    return absl::InvalidArgumentError("Copying bitmaps only possible with single source");
  }
  return absl::OkStatus();
}

}  // namespace ringcow
