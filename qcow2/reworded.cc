#include "qcow2/reworded.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace ringcow {

absl::Status Reworded(const absl::Status& status, absl::string_view message) {
  absl::Status reworded(status.code(), message);
  status.ForEachPayload([&reworded](absl::string_view url, const absl::Cord& payload) {
    reworded.SetPayload(url, payload);
  });
  return reworded;
}

absl::Status AtDepth(size_t depth, const absl::Status& status) {
  std::string message;
  for (size_t i = 0; i < depth; ++i) absl::StrAppend(&message, "Could not open backing file: ");
  absl::StrAppend(&message, std::string(status.message()));
  return Reworded(status, message);
}

}  // namespace ringcow
