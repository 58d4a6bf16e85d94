#ifndef RINGCOW_BENCH_HOST_H_
#define RINGCOW_BENCH_HOST_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace ringcow {

// Where figures were taken.
struct Host {
  std::string kernel;       // "Linux 6.1.0"
  std::string file_system;  // "ext4"; "unknown file system" when the kernel does not say
  int cpus = 0;             // that this process may use
  std::string processor;    // as it calls itself; empty when the kernel does not say
  uint64_t memory_bytes = 0;
};

Host DescribeHost(const std::string& directory);

// The first processor's name in what /proc/cpuinfo says; empty when it has none there.
std::string ProcessorName(absl::string_view cpuinfo);

// The type of the file system with device number `device` ("8:1"), in the format of
// /proc/self/mountinfo (proc(5)); empty when it is not there.
std::string FileSystemType(absl::string_view mountinfo, absl::string_view device);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_HOST_H_
