#include "cli/io/arguments.h"

#include <getopt.h>

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "cli/sizes.h"

namespace ringcow {

IoArguments::IoArguments(const IoCommand& command, const char* options,
                         std::vector<std::string> words)
    : command_(command), options_(options), words_(std::move(words)) {
  pointers_.reserve(words_.size() + 1);
  for (std::string& word : words_) pointers_.push_back(word.data());
  pointers_.push_back(nullptr);
  optind = 0;  // glibc: begin anew
}

std::optional<int> IoArguments::Next() {
  if (failed_) return std::nullopt;
  const int key = getopt(static_cast<int>(words_.size()), pointers_.data(), options_);
  if (key == -1) return std::nullopt;
  failed_ = key == '?';
  if (!failed_) return key;
  absl::PrintF("%s\n", Usage(command_));
  return std::nullopt;
}

std::span<char* const> IoArguments::rest() const {
  return std::span(pointers_).first(words_.size()).subspan(static_cast<size_t>(optind));
}

std::optional<uint64_t> ParseIoSize(const char* text) {
  const absl::StatusOr<uint64_t> value = ParseSize(text);
  if (value.ok() && *value <= INT64_MAX) return *value;
  if (absl::IsInvalidArgument(value.status())) {
    absl::PrintF("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n",
                 text);
  } else {
    absl::PrintF("Parsing error: argument too large -- %s\n", text);
  }
  return std::nullopt;
}

}  // namespace ringcow
