#include "bench/host.h"

#include <sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ringcow {
namespace {

std::string FileSystemOf(const std::string& directory) {
  struct stat status{};
  if (stat(directory.c_str(), &status) != 0) return "";
  std::ifstream file("/proc/self/mountinfo");
  const std::string mountinfo{std::istreambuf_iterator<char>(file), {}};
  return FileSystemType(mountinfo, absl::StrCat(major(status.st_dev), ":", minor(status.st_dev)));
}

}  // namespace

std::string FileSystemType(absl::string_view mountinfo, absl::string_view device) {
  for (const absl::string_view line : absl::StrSplit(mountinfo, '\n')) {
    // id parent major:minor root mount-point options [optional...] - type source options
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    if (fields.size() < 3 || fields[2] != device) continue;
    const auto separator = std::find(fields.begin(), fields.end(), "-");
    if (fields.end() - separator > 1) return std::string(separator[1]);
  }
  return "";
}

std::string ProcessorName(absl::string_view cpuinfo) {
  for (const absl::string_view line : absl::StrSplit(cpuinfo, '\n')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (absl::StripAsciiWhitespace(parts.first) != "model name") continue;
    return std::string(absl::StripAsciiWhitespace(parts.second));
  }
  return "";
}

Host DescribeHost(const std::string& directory) {
  Host host;
  utsname name{};
  if (uname(&name) == 0) host.kernel = absl::StrCat(name.sysname, " ", name.release);
  host.file_system = FileSystemOf(directory);
  if (host.file_system.empty()) host.file_system = "unknown file system";
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0) host.cpus = CPU_COUNT(&cpus);
  std::ifstream file("/proc/cpuinfo");
  host.processor = ProcessorName(std::string{std::istreambuf_iterator<char>(file), {}});
  const auto pages = static_cast<uint64_t>(std::max(sysconf(_SC_PHYS_PAGES), 0L));
  host.memory_bytes = pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return host;
}

}  // namespace ringcow
