#include "qcow2/foreign.h"

#include <algorithm>
#include <iterator>
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

}  // namespace

absl::Status UnknownDriver(absl::string_view driver) {
  absl::Status status = absl::InvalidArgumentError(absl::StrFormat("Unknown driver '%s'", driver));
  const bool is_foreign = std::ranges::find(kDrivers, driver) != std::end(kDrivers);
  return is_foreign ? AsForeign(std::move(status)) : status;
}

absl::Status UnknownProtocol(absl::string_view protocol) {
  absl::Status status =
      absl::InvalidArgumentError(absl::StrFormat("Unknown protocol '%s'", protocol));
  const bool is_foreign = std::ranges::find(kProtocols, protocol) != std::end(kProtocols);
  return is_foreign ? AsForeign(std::move(status)) : status;
}

absl::Status AsForeign(absl::Status status) {
  status.SetPayload(kForeign, absl::Cord());
  return status;
}

bool IsForeign(const absl::Status& status) { return status.GetPayload(kForeign).has_value(); }

}  // namespace ringcow
