#include "cli/snapshot_list.h"

#include <cstdint>
#include <ctime>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/sizes.h"

namespace ringcow {
namespace {

std::string ReadableDate(time_t seconds) {
  std::tm local{};
  localtime_r(&seconds, &local);
  char text[32];
  return std::string(text, std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local));
}

std::string ReadableClock(uint64_t nanoseconds) {
  const uint64_t milliseconds = nanoseconds / 1'000'000;
  const uint64_t seconds = milliseconds / 1000;
  return absl::StrFormat("%04d:%02d:%02d.%03d", seconds / 3600, seconds / 60 % 60, seconds % 60,
                         milliseconds % 1000);
}

}  // namespace

std::vector<std::string> SnapshotLines(std::span<const Snapshot> snapshots) {
  if (snapshots.empty()) return {};
  const auto line = [](const auto&... columns) {
    return absl::StrFormat("%-7s %-16s %8s %19s %15s %10s", columns...);
  };
  std::vector<std::string> lines = {"Snapshot list:",
                                    line("ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT")};
  for (const Snapshot& snapshot : snapshots) {
    // As in QEMU they end where they hold a zero byte.
    lines.push_back(line(snapshot.id.c_str(), snapshot.name.c_str(),
                         RoughSize(snapshot.vm_state_bytes), ReadableDate(snapshot.date_seconds),
                         ReadableClock(snapshot.vm_clock_nanoseconds),
                         snapshot.icount.has_value() ? absl::StrCat(*snapshot.icount) : "--"));
  }
  return lines;
}

}  // namespace ringcow
