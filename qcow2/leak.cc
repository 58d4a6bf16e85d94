#include "qcow2/leak.h"

#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"

namespace ringcow {
namespace {

constexpr absl::string_view kLeakPayload = "ringcow/leak";

}  // namespace

absl::Status Leaking(absl::Status status) {
  if (!status.ok()) status.SetPayload(kLeakPayload, absl::Cord());
  return status;
}

bool IsLeaking(const absl::Status& status) { return status.GetPayload(kLeakPayload).has_value(); }

}  // namespace ringcow
