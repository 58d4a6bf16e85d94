#ifndef RINGCOW_CLI_CACHE_POLICY_H_
#define RINGCOW_CLI_CACHE_POLICY_H_

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// What QEMU's cache modes (-t) say, taken apart:
//
//   mode           direct  writethrough  no_flush
//   writeback        -          -           -
//   none, off       yes         -           -
//   writethrough     -         yes          -
//   directsync      yes        yes          -
//   unsafe           -          -          yes
struct CachePolicy {
  bool direct = false;        // O_DIRECT: the host's page cache is not used
  bool writethrough = false;  // a write is durable when it is acknowledged, its metadata included
  // The guest's flushes are not carried out. Metadata is still written in order, since an image
  // that a crash can break is of no use even for a test.
  bool no_flush = false;
};

// Nothing for a mode that does not exist.
std::optional<CachePolicy> ParseCacheMode(absl::string_view mode);

// Sets `policy` to the mode that was given as `what`: else "Invalid <what> option: <mode>".
absl::Status SetCacheMode(absl::string_view what, absl::string_view mode, CachePolicy& policy);

// `disk`, with what a policy changes about writes and flushes.
std::unique_ptr<GuestDisk> ApplyCachePolicy(const CachePolicy& policy,
                                            std::unique_ptr<GuestDisk> disk);

}  // namespace ringcow

#endif  // RINGCOW_CLI_CACHE_POLICY_H_
