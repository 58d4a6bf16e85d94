#include "qcow2/corruption.h"

#include "absl/strings/cord.h"

namespace ringcow {
namespace {

constexpr absl::string_view kEntryPayload = "ringcow/corrupt_entry";
constexpr absl::string_view kOverlapPayload = "ringcow/overlap";

}  // namespace

absl::Status WithCorruption(absl::Status status, Corruption::Kind kind, absl::string_view what) {
  status.SetPayload(kind == Corruption::Kind::kEntry ? kEntryPayload : kOverlapPayload,
                    absl::Cord(what));
  return status;
}

std::optional<Corruption> CorruptionOf(const absl::Status& status) {
  if (const auto what = status.GetPayload(kEntryPayload)) {
    return Corruption{Corruption::Kind::kEntry, std::string(*what)};
  }
  if (const auto what = status.GetPayload(kOverlapPayload)) {
    return Corruption{Corruption::Kind::kOverlap, std::string(*what)};
  }
  return std::nullopt;
}

}  // namespace ringcow
