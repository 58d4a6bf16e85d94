#include "cli/driver_names.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_format.h"

namespace ringcow {

bool IsDriver(absl::string_view name) {
  constexpr absl::string_view kNames[] = {
      "blkdebug",  "blkverify",   "bochs", "cloop",      "compress",    "copy-on-read", "dmg",
      "file",      "ftp",         "ftps",  "host_cdrom", "host_device", "http",         "https",
      "iscsi",     "luks",        "nbd",   "nfs",        "null-aio",    "null-co",      "nvme",
      "parallels", "preallocate", "qcow",  "qcow2",      "qed",         "quorum",       "raw",
      "rbd",       "replication", "ssh",   "throttle",   "vdi",         "vhdx",         "vmdk",
      "vpc",       "vvfat"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

absl::Status CannotCreate(absl::string_view format) {
  return absl::InvalidArgumentError(
      IsDriver(format)
          ? absl::StrFormat("Format driver '%s' does not support image creation", format)
          : absl::StrFormat("Unknown file format '%s'", format));
}

}  // namespace ringcow
