#include "bench/qemu.h"

#include <numeric>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "bench/subprocess.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr uint32_t kFillBytes = 1 << 20;  // of one write
constexpr uint32_t kFillDepth = 16;

// What stands between two marks.
std::optional<absl::string_view> Between(absl::string_view text, absl::string_view begin,
                                         absl::string_view end) {
  const size_t at = text.find(begin);
  if (at == absl::string_view::npos) return std::nullopt;
  text.remove_prefix(at + begin.size());
  const size_t length = text.find_first_of(end);
  if (length == absl::string_view::npos) return std::nullopt;
  return text.substr(0, length);
}

absl::StatusOr<std::string> RunTool(const std::vector<std::string>& command) {
  ASSIGN_OR_RETURN(SubprocessResult result, RunSubprocess(command));
  if (result.exit_code == 0) return std::move(result.output);
  return absl::InternalError(absl::StrCat("'", absl::StrJoin(command, " "), "' ended with ",
                                          result.exit_code, ": ", result.output));
}

}  // namespace

std::optional<std::string> ParseQemuVersion(absl::string_view output) {
  const std::optional<absl::string_view> version = Between(output, "qemu-img version ", " \n");
  if (!version.has_value()) return std::nullopt;
  return std::string(*version);
}

std::optional<double> ParseQemuBenchSeconds(absl::string_view output) {
  const std::optional<absl::string_view> text = Between(output, "Run completed in ", " ");
  double seconds = 0;
  if (!text.has_value() || !absl::SimpleAtod(*text, &seconds)) return std::nullopt;
  return seconds;
}

bool QemuCanExpress(const Workload& workload, uint32_t depth, uint32_t flush_every) {
  if (workload.pattern == Workload::Pattern::kInstallMix) return false;
  return flush_every == 0 || flush_every >= depth;
}

std::vector<std::string> QemuCreateCommand(const std::string& path, const Workload& workload) {
  std::vector<std::string> command = {"qemu-img", "create", "-q", "-f", "qcow2"};
  if (workload.extended_l2) command.insert(command.end(), {"-o", "extended_l2=on"});
  if (workload.start == Workload::Start::kOverlay) {
    const bool is_raw = workload.base == Workload::Base::kRaw;
    command.insert(command.end(), {"-b", BaseName(workload.base), "-F", is_raw ? "raw" : "qcow2"});
  }
  command.insert(command.end(), {path, absl::StrCat(workload.image_bytes)});
  return command;
}

std::vector<std::string> QemuBenchCommand(const std::string& path, const Workload& workload,
                                          const QemuImg::BenchOptions& options) {
  std::vector<std::string> command = {"qemu-img", "bench",
                                      "-f",       "qcow2",
                                      "-t",       options.writethrough ? "directsync" : "none",
                                      "-i",       options.aio,
                                      "-c",       absl::StrCat(options.requests),
                                      "-d",       absl::StrCat(options.depth),
                                      "-s",       absl::StrCat(workload.request_bytes),
                                      "-S",       absl::StrCat(Step(workload))};
  if (!workload.reads) {
    command.insert(command.end(), {"-w", "--pattern", "165"});
    if (options.flush_every > 0) {
      command.push_back(absl::StrCat("--flush-interval=", options.flush_every));
    }
  }
  command.push_back(path);
  return command;
}

std::optional<QemuImg> QemuImg::Find() {
  const absl::StatusOr<std::string> output = RunTool({"qemu-img", "--version"});
  if (!output.ok()) return std::nullopt;
  std::optional<std::string> version = ParseQemuVersion(*output);
  if (!version.has_value()) return std::nullopt;
  return QemuImg(*std::move(version));
}

absl::Status QemuImg::Prepare(const std::string& path, const Workload& workload,
                              const std::string& aio) const {
  RETURN_IF_ERROR(RunTool(QemuCreateCommand(path, workload)).status());
  if (workload.start != Workload::Start::kSnapshot) return absl::OkStatus();
  Workload filling;
  filling.image_bytes = workload.image_bytes;
  filling.request_bytes =
      static_cast<uint32_t>(std::gcd(workload.image_bytes, uint64_t{kFillBytes}));
  BenchOptions options;
  options.depth = kFillDepth;
  options.requests = filling.image_bytes / filling.request_bytes;
  options.aio = aio;
  RETURN_IF_ERROR(Bench(path, filling, options).status());
  return RunTool({"qemu-img", "snapshot", "-c", "before", path}).status();
}

absl::StatusOr<double> QemuImg::Bench(const std::string& path, const Workload& workload,
                                      const BenchOptions& options) const {
  ASSIGN_OR_RETURN(const std::string output, RunTool(QemuBenchCommand(path, workload, options)));
  const std::optional<double> seconds = ParseQemuBenchSeconds(output);
  if (seconds.has_value()) return *seconds;
  return absl::InternalError(absl::StrCat("qemu-img bench did not say how long it took: ", output));
}

absl::Status QemuImg::Check(const std::string& path) const {
  ASSIGN_OR_RETURN(SubprocessResult result,
                   RunSubprocess({"qemu-img", "check", "-f", "qcow2", path}));
  if (result.exit_code == 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("qemu-img check finds fault with '", path,
                                          "' (exit code ", result.exit_code, "): ", result.output));
}

}  // namespace ringcow
