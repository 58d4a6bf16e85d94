#include "qcow2/corruption.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "qcow2/metadata.h"

namespace ringcow {
namespace {

constexpr absl::string_view kEntryPayload = "ringcow/corrupt_entry";
constexpr absl::string_view kToWritersPayload = "ringcow/corrupt_entry_to_writers";
constexpr absl::string_view kOverlapPayload = "ringcow/overlap";
constexpr absl::string_view kBehindFilePayload = "ringcow/behind_file";
constexpr absl::string_view kToldPayload = "ringcow/corruption_was_told";

}  // namespace

absl::Status CorruptEntry(const Disk& disk, const absl::Status& why) {
  absl::Status status = Named(disk, why);
  status.SetPayload(kEntryPayload, absl::Cord(why.message()));
  return status;
}

absl::Status ToldToWriters(absl::Status status, absl::string_view sentence) {
  status.SetPayload(kToWritersPayload, absl::Cord(sentence));
  return status;
}

std::string OverlapSentence(absl::string_view what) {
  return absl::StrCat("Preventing invalid write on metadata (overlaps with ", what, ")");
}

absl::Status WithOverlap(absl::Status status, absl::string_view what) {
  const std::string sentence = OverlapSentence(what);
  status.SetPayload(kOverlapPayload, absl::Cord(absl::string_view(sentence)));
  return status;
}

bool IsInHeader(const absl::Status& status) {
  const auto overlap = status.GetPayload(kOverlapPayload);
  return overlap.has_value() && *overlap == OverlapSentence("qcow2_header");
}

absl::Status WithAllocation(absl::Status status, absl::string_view what) {
  if (!IsInHeader(status)) return status;
  const std::string sentence =
      absl::StrCat("Preventing invalid allocation of ", what, " at offset 0");
  status.SetPayload(kOverlapPayload, absl::Cord(absl::string_view(sentence)));
  return status;
}

absl::Status BehindFile(absl::Status status) {
  status.SetPayload(kBehindFilePayload, absl::Cord());
  return status;
}

bool IsBehindFile(const absl::Status& status) {
  return status.GetPayload(kBehindFilePayload).has_value();
}

absl::Status Told(absl::Status status) {
  status.SetPayload(kToldPayload, absl::Cord());
  return status;
}

bool WasTold(const absl::Status& status) { return status.GetPayload(kToldPayload).has_value(); }

absl::Status Untold(absl::Status status) {
  status.ErasePayload(kToldPayload);
  return status;
}

absl::Status WithoutCorruption(absl::Status status) {
  for (const absl::string_view payload : {kEntryPayload, kToWritersPayload, kOverlapPayload}) {
    status.ErasePayload(payload);
  }
  return status;
}

std::optional<Corruption> CorruptionOf(const absl::Status& status) {
  if (const auto what = status.GetPayload(kEntryPayload)) {
    const auto to_writers = status.GetPayload(kToWritersPayload);
    return Corruption{Corruption::Kind::kEntry, std::string(*what),
                      std::string(to_writers.value_or(*what))};
  }
  if (const auto what = status.GetPayload(kOverlapPayload)) {
    return Corruption{Corruption::Kind::kOverlap, std::string(*what), std::string(*what)};
  }
  return std::nullopt;
}

}  // namespace ringcow
