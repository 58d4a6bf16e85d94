#include "cli/sizes.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace ringcow {
namespace {

constexpr absl::string_view kUnits[] = {"", "K", "M", "G", "T", "P", "E"};

absl::Status Invalid() { return absl::InvalidArgumentError(""); }
absl::Status TooLarge() { return absl::OutOfRangeError(""); }

absl::string_view TakeDigits(absl::string_view& text) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
  const absl::string_view taken = text.substr(0, digits);
  text.remove_prefix(digits);
  return taken;
}

std::optional<uint64_t> Multiplier(absl::string_view suffix) {
  if (suffix.empty()) return 1;
  if (suffix.size() > 1) return std::nullopt;
  constexpr absl::string_view kSuffixes = "BKMGTPE";
  const size_t power = kSuffixes.find(absl::ascii_toupper(suffix[0]));
  if (power == absl::string_view::npos) return std::nullopt;
  return uint64_t{1} << (10 * power);
}

absl::StatusOr<uint64_t> ParseHexadecimal(absl::string_view digits) {
  uint64_t value = 0;
  if (digits.empty()) return Invalid();
  bool overflow = false;
  for (const char digit : digits) {
    if (!absl::ascii_isxdigit(digit)) return Invalid();
    overflow |= value >> 60 != 0;
    value = value << 4 | static_cast<uint64_t>(absl::ascii_isdigit(digit)
                                                   ? digit - '0'
                                                   : absl::ascii_tolower(digit) - 'a' + 10);
  }
  if (overflow) return TooLarge();
  return value;
}

absl::StatusOr<uint64_t> ParseUnsignedSize(absl::string_view text) {
  if (absl::StartsWithIgnoreCase(text, "0x")) return ParseHexadecimal(text.substr(2));
  const absl::string_view whole = TakeDigits(text);
  absl::string_view fraction;
  if (absl::ConsumePrefix(&text, ".")) fraction = TakeDigits(text);
  if (whole.empty() && fraction.empty()) return Invalid();

  const std::optional<uint64_t> multiplier = Multiplier(text);
  if (!multiplier.has_value()) return Invalid();
  uint64_t value = 0;
  if (!whole.empty() && !absl::SimpleAtoi(whole, &value)) return TooLarge();
  double part = 0;
  if (!fraction.empty() && !absl::SimpleAtod(absl::StrCat("0.", fraction), &part)) return Invalid();
  if (part != 0 && *multiplier == 1) return Invalid();
  const auto rest = static_cast<uint64_t>(part * static_cast<double>(*multiplier));
  if (value > (std::numeric_limits<uint64_t>::max() - rest) / *multiplier) return TooLarge();
  return value * *multiplier + rest;
}

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

absl::StatusOr<uint64_t> ParseSize(absl::string_view text) {
  text = absl::StripLeadingAsciiWhitespace(text);
  const bool negative = absl::ConsumePrefix(&text, "-");
  if (!negative) absl::ConsumePrefix(&text, "+");
  absl::StatusOr<uint64_t> value = ParseUnsignedSize(text);
  if (negative && value.ok()) return TooLarge();
  return value;
}

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
