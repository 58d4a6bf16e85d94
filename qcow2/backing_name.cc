#include "qcow2/backing_name.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "qcow2/foreign.h"

namespace ringcow {
namespace {

// A slash before the colon makes it part of a path: "./a:b".
bool HasProtocol(absl::string_view name) {
  const size_t colon = name.find(':');
  return colon != absl::string_view::npos && colon < name.find('/');
}

}  // namespace

absl::StatusOr<std::string> LocalPath(absl::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("A file name must not be empty");
  if (!HasProtocol(name)) return std::string(name);
  if (absl::ConsumePrefix(&name, "file:")) {
    // So that it is no protocol for who reads it again.
    return absl::StrCat(HasProtocol(name) ? "./" : "", name);
  }
  return UnknownProtocol(name.substr(0, name.find(':')));
}

std::string FullBackingPath(absl::string_view path, absl::string_view name) {
  if (HasProtocol(name) || absl::StartsWith(name, "/")) return std::string(name);
  return absl::StrCat(path.substr(0, path.find_last_of('/') + 1), name);
}

bool IsLost(absl::string_view path, absl::string_view name) {
  return path.empty() && !name.empty() && FullBackingPath("/", name) != name;
}

}  // namespace ringcow
