#include "qcow2/foreign.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_format.h"

namespace ringcow {
namespace {

constexpr absl::string_view kDrivers[] = {
    "blklogwrites", "blkreplay", "blkverify", "bochs", "cloop",  "dmg",  "ftp",
    "ftps",         "gluster",   "http",      "https", "iscsi",  "luks", "nbd",
    "nfs",          "parallels", "qcow",      "qed",   "quorum", "rbd",  "ssh",
    "throttle",     "vdi",       "vhdx",      "vmdk",  "vpc",    "vvfat"};
constexpr absl::string_view kProtocols[] = {
    "blkverify",   "fat",          "ftp",  "ftps",  "gluster", "gluster+rdma",
    "gluster+tcp", "gluster+unix", "http", "https", "iscsi",   "nbd",
    "nbd+tcp",     "nbd+unix",     "nfs",  "rbd",   "ssh"};

constexpr char kForeign[] = "ringcow/foreign";

absl::Status Unknown(absl::string_view kind, absl::string_view name,
                     std::span<const absl::string_view> those_of_qemu) {
  absl::Status status = absl::InvalidArgumentError(absl::StrFormat("Unknown %s '%s'", kind, name));
  const bool is_foreign = std::ranges::find(those_of_qemu, name) != those_of_qemu.end();
  return is_foreign ? AsForeign(std::move(status)) : status;
}

}  // namespace

absl::Status UnknownDriver(absl::string_view driver) { return Unknown("driver", driver, kDrivers); }

absl::Status UnknownProtocol(absl::string_view protocol) {
  return Unknown("protocol", protocol, kProtocols);
}

absl::Status AsForeign(absl::Status status) {
  status.SetPayload(kForeign, absl::Cord());
  return status;
}

bool IsForeign(const absl::Status& status) { return status.GetPayload(kForeign).has_value(); }

}  // namespace ringcow
