#ifndef RINGCOW_BENCH_HOST_H_
#define RINGCOW_BENCH_HOST_H_

#include <string>

#include "absl/strings/string_view.h"

namespace ringcow {

// Where figures were taken.
struct Host {
  std::string kernel;       // "Linux 6.1.0"
  std::string file_system;  // "ext4"; "unknown file system" when the kernel does not say
  int cpus = 0;             // that this process may use
};

Host DescribeHost(const std::string& directory);

// The type of the file system with device number `device` ("8:1"), in the format of
// /proc/self/mountinfo (proc(5)); empty when it is not there.
std::string FileSystemType(absl::string_view mountinfo, absl::string_view device);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_HOST_H_
