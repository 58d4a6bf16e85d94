#ifndef RINGCOW_CLI_JSON_H_
#define RINGCOW_CLI_JSON_H_

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"

namespace ringcow {

// A value to be printed as JSON, or as the indented lines into which qemu-img turns the same data
// for people. Members of an object keep the order in which they were added: QEMU's order is that of
// a hash table, which scripts that compare text have come to depend on.
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  template <std::same_as<bool> T>
  explicit Json(T value) : value_(value) {}
  template <std::unsigned_integral T>
    requires(!std::same_as<T, bool>)
  explicit Json(T value) : value_(uint64_t{value}) {}
  explicit Json(std::string value) : value_(std::move(value)) {}
  explicit Json(const char* value) : value_(std::string(value)) {}
  explicit Json(Array value) : value_(std::move(value)) {}
  explicit Json(Object value) : value_(std::move(value)) {}

  // With QEMU's line breaks and four blanks a level; without a newline at the end. Text that is not
  // UTF-8 gets U+FFFD, what is not ASCII is escaped.
  std::string Pretty() const;

  // The same as one line, with a blank behind each comma and colon.
  std::string Line() const;

  // "refcount bits: 16", one line for each member or element, each behind 4 * `level` blanks.
  std::string HumanLines(int level) const;

 private:
  // kNoLevel: all in one line.
  void AppendText(int level, std::string& out) const;
  void AppendHumanLine(const std::string& label, int level, std::string& out) const;
  void AppendHumanMembers(int level, std::string& out) const;

  std::variant<bool, uint64_t, std::string, Array, Object> value_;
};

}  // namespace ringcow

#endif  // RINGCOW_CLI_JSON_H_
