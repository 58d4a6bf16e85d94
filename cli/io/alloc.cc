#include <algorithm>

#include "absl/strings/str_format.h"
#include "cli/io/arguments.h"
#include "cli/io/session.h"
#include "cli/sizes.h"
#include "engine/status_macros.h"
#include "qcow2/failure_reason.h"

namespace ringcow {
namespace {

constexpr uint64_t kDefaultBytes = 512;

// How many of these bytes, which lie inside the disk, its own layer has.
Task<absl::StatusOr<uint64_t>> AllocatedBytes(GuestDisk& disk, uint64_t begin, uint64_t end) {
  uint64_t allocated = 0;
  while (begin < end) {
    CO_ASSIGN_OR_RETURN(const GuestExtent extent,
                        co_await disk.Find(GuestOffset(begin), end - begin));
    if (extent.allocated) allocated += extent.bytes;
    begin += extent.bytes;
  }
  co_return allocated;
}

Task<bool> RunAlloc(Session& session, std::vector<std::string> words) {
  const std::optional<uint64_t> offset = ParseIoSize(words[1].c_str());
  if (!offset.has_value()) co_return false;
  const std::optional<uint64_t> asked =
      words.size() > 2 ? ParseIoSize(words[2].c_str()) : kDefaultBytes;
  if (!asked.has_value()) co_return false;
  const uint64_t size = session.disk().size();
  const uint64_t bytes = std::min(*asked, size - std::min(size, *offset));
  const absl::StatusOr<uint64_t> allocated =
      co_await AllocatedBytes(session.disk(), *offset, *offset + bytes);
  if (!allocated.ok()) {
    absl::PrintF("is_allocated failed: %s\n", FailureReason(allocated.status()));
    co_return false;
  }
  absl::PrintF("%d/%d bytes allocated at offset %s\n", *allocated, bytes,
               PreciseSize(static_cast<double>(*offset)));
  co_return true;
}

}  // namespace

const IoCommand kAlloc = {
    .name = "alloc",
    .alias = "a",
    .min_arguments = 1,
    .max_arguments = 2,
    .synopsis = "offset [count]",
    .summary = "checks if offset is allocated in the file",
    .run = RunAlloc,
};

}  // namespace ringcow
