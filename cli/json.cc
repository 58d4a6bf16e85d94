#include "cli/json.h"

#include <bit>
#include <cstddef>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace ringcow {
namespace {

constexpr uint32_t kReplacement = 0xfffd;
constexpr int kNoLevel = -1;

std::string Indent(int level) { return std::string(static_cast<size_t>(level) * 4, ' '); }

// What goes before a member or behind the last one.
std::string NewLine(int level) {
  return level == kNoLevel ? "" : absl::StrCat("\n", Indent(level));
}

bool IsContinuation(absl::string_view text, size_t at) {
  return at < text.size() && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80;
}

// Takes one code point off `text`, which is not empty. What is not UTF-8 (overlong forms,
// surrogates and values beyond Unicode included) counts as kReplacement.
uint32_t TakeCodePoint(absl::string_view& text) {
  const auto first = static_cast<uint8_t>(text[0]);
  const int ones = std::countl_one(first);
  size_t length = 1;
  uint32_t code = first;
  if (ones >= 2 && ones <= 6) {
    code = first & (0x7fU >> ones);
    while (length < static_cast<size_t>(ones) && IsContinuation(text, length)) {
      code = code << 6 | (static_cast<uint8_t>(text[length++]) & 0x3fU);
    }
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  // "Modified" UTF-8 has this form of NUL, and QEMU takes it.
  if (length == 2 && first == 0xc0 && code == 0) {
    text.remove_prefix(length);
    return 0;
  }
  const bool well_formed =
      ones == 0 ||
      (ones >= 2 && ones <= 4 && length == static_cast<size_t>(ones) && code >= kSmallest[ones] &&
       code <= 0x10ffff && (code < 0xd800 || code > 0xdfff));
  text.remove_prefix(length);
  return well_formed ? code : kReplacement;
}

void AppendEscaped(uint32_t code, std::string& out) {
  switch (code) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\b':
      out += "\\b";
      return;
    case '\f':
      out += "\\f";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  if (code >= 0x20 && code < 0x7f) {
    out += static_cast<char>(code);
  } else if (code > 0xffff) {
    absl::StrAppendFormat(&out, "\\u%04X\\u%04X", 0xd800 + ((code - 0x10000) >> 10),
                          0xdc00 + ((code - 0x10000) & 0x3ff));
  } else {
    absl::StrAppendFormat(&out, "\\u%04X", code);
  }
}

std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  while (!text.empty()) AppendEscaped(TakeCodePoint(text), out);
  return out + "\"";
}

}  // namespace

std::string Json::Pretty() const {
  std::string out;
  AppendText(0, out);
  return out;
}

std::string Json::Line() const {
  std::string out;
  AppendText(kNoLevel, out);
  return out;
}

void Json::AppendText(int level, std::string& out) const {
  const int inner = level == kNoLevel ? kNoLevel : level + 1;
  const auto separate = [&out, inner](size_t index) {
    if (index > 0) out += inner == kNoLevel ? ", " : ",";
    out += NewLine(inner);
  };
  if (const auto* flag = std::get_if<bool>(&value_)) {
    out += *flag ? "true" : "false";
  } else if (const auto* number = std::get_if<uint64_t>(&value_)) {
    absl::StrAppend(&out, *number);
  } else if (const auto* text = std::get_if<std::string>(&value_)) {
    out += Quoted(*text);
  } else if (const auto* array = std::get_if<Array>(&value_)) {
    out += "[";
    for (size_t i = 0; i < array->size(); ++i) {
      separate(i);
      (*array)[i].AppendText(inner, out);
    }
    absl::StrAppend(&out, NewLine(level), "]");
  } else if (const auto* object = std::get_if<Object>(&value_)) {
    out += "{";
    for (size_t i = 0; i < object->size(); ++i) {
      separate(i);
      absl::StrAppend(&out, Quoted((*object)[i].first), ": ");
      (*object)[i].second.AppendText(inner, out);
    }
    absl::StrAppend(&out, NewLine(level), "}");
  }
}

std::string Json::HumanLines(int level) const {
  std::string out;
  AppendHumanMembers(level, out);
  return out;
}

void Json::AppendHumanMembers(int level, std::string& out) const {
  if (const auto* array = std::get_if<Array>(&value_)) {
    for (size_t i = 0; i < array->size(); ++i) {
      (*array)[i].AppendHumanLine(absl::StrCat("[", i, "]"), level, out);
    }
  } else if (const auto* object = std::get_if<Object>(&value_)) {
    for (const auto& [name, value] : *object) {
      value.AppendHumanLine(absl::StrReplaceAll(name, {{"-", " "}}), level, out);
    }
  }
}

void Json::AppendHumanLine(const std::string& label, int level, std::string& out) const {
  absl::StrAppend(&out, Indent(level), label, ":");
  if (const auto* flag = std::get_if<bool>(&value_)) {
    absl::StrAppend(&out, *flag ? " true\n" : " false\n");
  } else if (const auto* number = std::get_if<uint64_t>(&value_)) {
    absl::StrAppend(&out, " ", *number, "\n");
  } else if (const auto* text = std::get_if<std::string>(&value_)) {
    absl::StrAppend(&out, " ", *text, "\n");
  } else {
    out += "\n";
    AppendHumanMembers(level + 1, out);
  }
}

}  // namespace ringcow
