#include "qcow2/parse_size.h"

#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace ringcow {
namespace {

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

}  // namespace

absl::StatusOr<uint64_t> ParseSize(absl::string_view text) {
  text = absl::StripLeadingAsciiWhitespace(text);
  const bool negative = absl::ConsumePrefix(&text, "-");
  if (!negative) absl::ConsumePrefix(&text, "+");
  absl::StatusOr<uint64_t> value = ParseUnsignedSize(text);
  if (!negative || !value.ok()) return value;
  // With a suffix QEMU no longer looks at what the number would be.
  return absl::ascii_isdigit(text.back()) ? TooLarge() : Invalid();
}

}  // namespace ringcow
