#include "cli/lost_bitmaps.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cli/program.h"

namespace ringcow {

std::optional<std::string> LostBitmaps(const absl::Status& closed) {
  const std::string message = MessageOf(closed);
  if (!absl::StartsWith(message, "Failed to write bitmap ")) return std::nullopt;
  return absl::StrCat("Lost persistent bitmaps during inactivation of node '#block000': ", message);
}

}  // namespace ringcow
