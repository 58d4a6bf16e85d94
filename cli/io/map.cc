#include "absl/strings/str_format.h"
#include "cli/io/session.h"
#include "cli/sizes.h"
#include "qcow2/failure_reason.h"

namespace ringcow {
namespace {

// Neighbouring bytes that the disk's own layer has, or has not.
struct Stretch {
  uint64_t begin = 0;
  uint64_t bytes = 0;
  bool allocated = false;
};

void Print(const Stretch& stretch) {
  if (stretch.bytes == 0) return;
  absl::PrintF("%s (%#x) bytes %s allocated at offset %s (0x%x)\n",
               PreciseSize(static_cast<double>(stretch.bytes)), stretch.bytes,
               stretch.allocated ? "   " : "not", PreciseSize(static_cast<double>(stretch.begin)),
               stretch.begin);
}

Task<bool> RunMap(Session& session, std::vector<std::string> /*words*/) {
  const uint64_t size = session.disk().size();
  Stretch stretch;
  for (uint64_t at = 0; at < size;) {
    const absl::StatusOr<GuestExtent> found =
        co_await session.disk().Find(GuestOffset(at), size - at);
    if (!found.ok()) {
      session.program().Error(
          absl::StrFormat("Failed to get allocation status: %s", FailureReason(found.status())));
      co_return false;
    }
    if (found->allocated != stretch.allocated) {
      Print(stretch);
      stretch = {.begin = at, .allocated = found->allocated};
    }
    stretch.bytes += found->bytes;
    at += found->bytes;
  }
  Print(stretch);
  co_return true;
}

}  // namespace

const IoCommand kMap = {
    .name = "map",
    .summary = "prints the allocated areas of a file",
    .run = RunMap,
};

}  // namespace ringcow
