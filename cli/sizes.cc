#include "cli/sizes.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace ringcow {
namespace {

constexpr absl::string_view kUnits[] = {"", "K", "M", "G", "T", "P", "E"};

absl::Status Invalid() { return absl::InvalidArgumentError(""); }
absl::Status TooLarge() { return absl::OutOfRangeError(""); }

absl::StatusOr<uint64_t> InRange(absl::string_view what, absl::string_view text,
                                 absl::StatusOr<uint64_t> value, uint64_t min, uint64_t max) {
  if (absl::IsInvalidArgument(value.status())) {
    return absl::InvalidArgumentError(absl::StrFormat("Invalid %s specified: '%s'.", what, text));
  }
  if (!value.ok() || *value < min || *value > max) {
    return absl::OutOfRangeError(
        absl::StrFormat("Invalid %s specified. Must be between %d and %d.", what, min, max));
  }
  return value;
}

}  // namespace

absl::StatusOr<uint64_t> ParseSizeInRange(absl::string_view what, absl::string_view text,
                                          uint64_t min, uint64_t max) {
  return InRange(what, text, ParseSize(text), min, max);
}

absl::StatusOr<uint64_t> ParseNumber(absl::string_view text) {
  const std::string terminated(text);
  char* end = nullptr;
  errno = 0;
  const uint64_t value = std::strtoull(terminated.c_str(), &end, 0);
  if (end == terminated.c_str() || *end != '\0') return Invalid();
  if (errno == ERANGE) return TooLarge();
  return value;
}

absl::StatusOr<uint64_t> ParseNumberInRange(absl::string_view what, absl::string_view text,
                                            uint64_t min, uint64_t max) {
  return InRange(what, text, ParseNumber(text), min, max);
}

std::string RoughSize(uint64_t bytes) {
  // The next unit begins at 1000, not at 1024: three digits must do.
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1000 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return absl::StrFormat("%.3g %s%s", value, kUnits[unit], unit == 0 ? "B" : "iB");
}

std::string PreciseSize(double bytes) {
  size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(kUnits); ++unit) bytes /= 1024;
  const std::string number = absl::StrFormat("%.3f", bytes);
  return absl::StrCat(absl::StripSuffix(number, ".000"), " ",
                      unit == 0 ? "bytes" : absl::StrCat(kUnits[unit], "iB"));
}

}  // namespace ringcow
