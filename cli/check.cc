#include "qcow2/check.h"

#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/json.h"
#include "cli/output_format.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/chain_files.h"
#include "qcow2/repair.h"

namespace ringcow {
namespace {

enum LongOnly { kOutput = kFirstLongOnlyKey, kImageOptions, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'q', "quiet", nullptr, "no summary"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {'T', "cache", "MODE", "cache mode of the image (default: writeback)"},
    {'U', "force-share", nullptr, "also when the image is in use elsewhere"},
    {kOutput, "output", "human|json", "what the output is like (default: human)"},
    {'r', "repair", "leaks|all", "put right what can be, and check again"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

// Exit statuses of qemu-img check, beside EXIT_SUCCESS and EXIT_FAILURE.
constexpr int kCorrupt = 2;
constexpr int kLeaky = 3;
constexpr int kNotChecked = 63;  // the format has no checks

struct Settings {
  std::string name;
  TargetOptions target;
  OutputFormat output = OutputFormat::kHuman;
  bool quiet = false;
  std::optional<RepairScope> repair;
};

Json CheckJson(const Settings& settings, const CheckResult& result) {
  Json::Object members;
  const auto add_if_any = [&members](const char* name, uint64_t count) {
    if (count > 0) members.emplace_back(name, Json(count));
  };
  add_if_any("image-end-offset", result.image_end_offset);
  add_if_any("compressed-clusters", result.compressed_clusters);
  add_if_any("total-clusters", result.total_clusters);
  add_if_any("corruptions-fixed", result.corruptions_fixed);
  add_if_any("corruptions", result.corruptions);
  members.emplace_back("check-errors", Json(result.check_errors));
  add_if_any("leaks-fixed", result.leaks_fixed);
  add_if_any("leaks", result.leaks);
  add_if_any("allocated-clusters", result.allocated_clusters);
  members.emplace_back("filename", Json(settings.name));
  members.emplace_back("format", Json("qcow2"));
  add_if_any("fragmented-clusters", result.fragmented_clusters);
  return Json(std::move(members));
}

void PrintFindings(const CheckResult& result) {
  if (result.is_clean()) {
    absl::PrintF("No errors were found on the image.\n");
    return;
  }
  if (result.corruptions > 0) {
    absl::PrintF(
        "\n%d errors were found on the image.\n"
        "Data may be corrupted, or further writes to the image may corrupt it.\n",
        result.corruptions);
  }
  if (result.leaks > 0) {
    absl::PrintF(
        "\n%d leaked clusters were found on the image.\n"
        "This means waste of disk space, but no harm to data.\n",
        result.leaks);
  }
  if (result.check_errors > 0) {
    absl::PrintF("\n%d internal errors have occurred during the check.\n", result.check_errors);
  }
}

void PrintHuman(const CheckResult& result) {
  const auto percent = [](uint64_t part, uint64_t whole) {
    return 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  };
  PrintFindings(result);
  if (result.total_clusters > 0 && result.allocated_clusters > 0) {
    absl::PrintF("%d/%d = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
                 result.allocated_clusters, result.total_clusters,
                 percent(result.allocated_clusters, result.total_clusters),
                 percent(result.fragmented_clusters, result.allocated_clusters),
                 percent(result.compressed_clusters, result.allocated_clusters));
  }
  if (result.image_end_offset > 0) {
    absl::PrintF("Image end offset: %d\n", result.image_end_offset);
  }
}

// What was repaired is checked once more: the counts are of what is left.
Task<absl::StatusOr<CheckResult>> RepairAndCheck(Disk& disk, RepairScope scope, Settings settings,
                                                 CheckOptions options) {
  CO_ASSIGN_OR_RETURN(const CheckResult repaired, co_await RepairImage(disk, scope, options));
  if (repaired.stopped_by != 0) co_return repaired;
  if (repaired.corruptions_fixed == 0 && repaired.leaks_fixed == 0) co_return repaired;
  if (settings.output == OutputFormat::kHuman && !settings.quiet) {
    absl::PrintF(
        "The following inconsistencies were found and repaired:\n\n"
        "    %d leaked clusters\n    %d corruptions\n\n"
        "Double checking the fixed image now...\n",
        repaired.leaks_fixed, repaired.corruptions_fixed);
  }
  CO_ASSIGN_OR_RETURN(CheckResult left, co_await CheckImage(disk, options));
  left.leaks_fixed = repaired.leaks_fixed;
  left.corruptions_fixed = repaired.corruptions_fixed;
  co_return left;
}

// Nothing when the image's format has no checks.
Task<absl::StatusOr<std::optional<CheckResult>>> OpenAndCheck(Host& host, Settings settings) {
  // As qemu-img check, which opens an image as for a guest.
  CO_ASSIGN_OR_RETURN(std::vector<ChainFiles> files,
                      co_await OpenFilesForCheck(host, settings.name, settings.target));
  const ImageFile& file = files.front().file;
  const bool is_image = file.host().source().above.empty();
  if (file.format() != ImageFormat::kQcow2 || !is_image) co_return std::nullopt;
  CheckOptions options;
  options.report = [](absl::string_view line) { absl::FPrintF(stderr, "%s\n", line); };
  absl::StatusOr<CheckResult> result =
      settings.repair.has_value()
          ? co_await RepairAndCheck(file.disk(), *settings.repair, settings, options)
          : co_await CheckImage(file.disk(), options);
  if (!result.ok()) co_return WithoutName(result.status(), file.disk());
  absl::Status closed;
  for (ChainFiles& layer : files) closed.Update(co_await CloseChainFiles(layer));
  CO_RETURN_IF_ERROR(closed);
  co_return *result;
}

absl::StatusOr<std::optional<CheckResult>> Check(const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(OpenAndCheck(*host, settings));
}

int Report(const Program& program, const Settings& settings, const CheckResult& result) {
  if (result.stopped_by != 0) {
    if (!result.stop_reason.empty()) program.Error(result.stop_reason);
    return program.Fail(absl::StrCat("Check failed: ", std::strerror(result.stopped_by)));
  }
  if (settings.output == OutputFormat::kJson) {
    absl::PrintF("%s\n", CheckJson(settings, result).Pretty());
  } else if (!settings.quiet) {
    PrintHuman(result);
  }
  if (result.check_errors > 0) return program.Fail("Check failed");
  if (result.corruptions > 0) return kCorrupt;
  return result.leaks > 0 ? kLeaky : EXIT_SUCCESS;
}

int RunCheck(const Program& program, int argc, char** argv) {
  Settings settings;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kCheckCommand);
      case 'q':
        settings.quiet = true;
        break;
      case kImageOptions:
        settings.target.image_options = true;
        break;
      case 'f':
        settings.target.format = options.argument();
        break;
      case 'T': {
        const absl::Status set =
            SetCacheMode("source cache", options.argument(), settings.target.cache);
        if (!set.ok()) return program.Fail(set);
        break;
      }
      case 'U':
        settings.target.force_share = true;
        break;
      case 'r': {
        const absl::string_view what = options.argument();
        if (what != "leaks" && what != "all") {
          return program.Misused(
              absl::StrCat("--repair (-r) expects 'leaks' or 'all' not '", what, "'"));
        }
        settings.repair = what == "all" ? RepairScope::kAll : RepairScope::kLeaks;
        settings.target.read_only = false;
        break;
      }
      case kOutput: {
        const auto output = ParseOutputFormat(program, options.argument());
        if (!output.has_value()) return EXIT_FAILURE;
        settings.output = *output;
        break;
      }
      default:
        return EXIT_FAILURE;
    }
  }
  if (options.rest().size() != 1) return program.Misused("Expecting one image file name");
  settings.name = options.rest()[0];

  const absl::StatusOr<std::optional<CheckResult>> result = Check(settings);
  if (!result.ok()) {
    return program.Fail(CouldNotOpen(settings.name, settings.target, result.status()));
  }
  const std::optional<CheckResult>& checked = *result;
  if (!checked.has_value()) {
    program.Error("This image format does not support checks");
    return kNotChecked;
  }
  return Report(program, settings, *checked);
}

}  // namespace

const Command kCheckCommand = {
    .name = "check",
    .summary = "Check whether an image is consistent",
    .arguments = "FILE",
    .options = kOptions,
    .run = RunCheck,
};

}  // namespace ringcow
