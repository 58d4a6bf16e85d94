#ifndef RINGCOW_QCOW2_IMAGE_DESCRIPTION_H_
#define RINGCOW_QCOW2_IMAGE_DESCRIPTION_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// What to open and how, in QEMU's options. Those of a child (the file that an image is in, its
// backing file) have its name and a dot before theirs, however they were nested:
//   {"driver": "qcow2", "file": {"driver": "file", "filename": "a"}}
//   driver=qcow2,file.driver=file,file.filename=a
// Whoever understands an option takes it out; what is left at the end is unknown to everybody.
class ImageDescription {
 public:
  explicit ImageDescription(std::map<std::string, std::string> options)
      : options_(std::move(options)) {}

  static bool IsJson(absl::string_view name) { return name.substr(0, 5) == "json:"; }
  // "json:{...}". Values are text, numbers, true ("on"), false ("off") or null (""); those of lists
  // are named by their index. Text may be in single quotes, as QEMU allows. InvalidArgument for
  // what is no JSON object.
  static absl::StatusOr<ImageDescription> FromJson(absl::string_view name);

  std::optional<std::string> Take(const std::string& option);
  void Put(const std::string& option, std::string value) { options_[option] = std::move(value); }
  // "on" and "off", or another word that QEMU has for them; InvalidArgument in QEMU's words for
  // anything else.
  absl::StatusOr<std::optional<bool>> TakeFlag(const std::string& option);
  // A number of bytes, or InvalidArgument.
  absl::StatusOr<std::optional<uint64_t>> TakeBytes(const std::string& option);
  // The options of a child; nothing when it has none.
  std::optional<ImageDescription> TakeChild(const std::string& child);

  const std::map<std::string, std::string>& options() const { return options_; }

  // InvalidArgument for the child of a child of a child, too many times: whoever goes down to what
  // an image lies in asks this on each level, because people can nest as deep as they can type.
  absl::Status CheckDepth() const;

 private:
  static constexpr int kMaxDepth = 64;

  std::map<std::string, std::string> options_;
  int depth_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_IMAGE_DESCRIPTION_H_
