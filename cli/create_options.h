#ifndef RINGCOW_CLI_CREATE_OPTIONS_H_
#define RINGCOW_CLI_CREATE_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cli/option_string.h"
#include "qcow2/format/image_format.h"

namespace ringcow {

// One option that `create -o` knows for a format.
struct CreateOptionSpec {
  enum class Kind { kText, kFlag, kSize, kNumber };

  const char* name = nullptr;
  Kind kind = Kind::kText;
  const char* help = nullptr;
  const char* default_value = nullptr;  // none: not shown unless given
  bool of_file = false;                 // QEMU counts it among those of the file, not the format
  // Of encryption, which QEMU has and this build lacks: a flag may be switched off, anything else
  // is refused.
  bool lacking = false;
};

// In the order in which they are shown.
std::span<const CreateOptionSpec> CreateOptionSpecs(ImageFormat format);

// The options for one new image: checked for form, not yet for sense.
class CreateOptionValues {
 public:
  explicit CreateOptionValues(ImageFormat format);

  // Errors in qemu-img's words; Unimplemented for what this build lacks.
  absl::Status Set(const NamedValue& option);

  // Whether it was given or has a default.
  bool Has(absl::string_view name) const;
  // What was given, or the default. Only of what Has.
  const std::string& Text(absl::string_view name) const;
  uint64_t Number(absl::string_view name) const;  // of kSize and kNumber
  bool Flag(absl::string_view name) const { return Number(name) != 0; }

  // "cluster_size=65536 extended_l2=off ...": what qemu-img shows behind "Formatting".
  std::string Describe() const;

 private:
  struct Value {
    std::string text;  // as it was given
    uint64_t number = 0;
  };

  const CreateOptionSpec* Find(absl::string_view name) const;
  const Value& ValueOf(absl::string_view name) const;

  std::span<const CreateOptionSpec> specs_;
  std::vector<std::optional<Value>> values_;  // one for each spec
};

// What `amend -o` knows beside options of creation. It lacks them all.
std::span<const CreateOptionSpec> KeyslotOptionSpecs();

// The lines of `-o help`, one for each option, sorted.
std::string DescribeOptions(std::vector<CreateOptionSpec> specs);

// The text of `create -o help`, with or without a file that is named as well.
std::string DescribeCreateOptions(ImageFormat format, bool has_file);

}  // namespace ringcow

#endif  // RINGCOW_CLI_CREATE_OPTIONS_H_
