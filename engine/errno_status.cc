#include "engine/errno_status.h"

#include <cerrno>
#include <optional>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ringcow {
namespace {

constexpr absl::string_view kErrnoPayload = "ringcow/errno";

}  // namespace

absl::Status ErrnoStatus(int error, absl::string_view what) {
  absl::Status status = absl::ErrnoToStatus(error, what);
  // Not from a std::string: GCC, which compiled Abseil, and clang mangle that template differently.
  const std::string digits = absl::StrCat(error);
  status.SetPayload(kErrnoPayload, absl::Cord(absl::string_view(digits)));
  return status;
}

bool HasErrno(const absl::Status& status) { return status.GetPayload(kErrnoPayload).has_value(); }

int ErrnoOf(const absl::Status& status) {
  if (status.ok()) return 0;
  int error = EIO;
  if (const auto payload = status.GetPayload(kErrnoPayload); payload.has_value()) {
    if (!absl::SimpleAtoi(std::string(*payload), &error)) return EIO;
  }
  return error;
}

}  // namespace ringcow
