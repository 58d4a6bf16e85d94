#ifndef RINGCOW_QCOW2_IMAGE_SOURCE_H_
#define RINGCOW_QCOW2_IMAGE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qcow2/blkdebug/options.h"
#include "qcow2/image_description.h"
#include "qcow2/preallocating_disk.h"
#include "qcow2/void_disk.h"

namespace ringcow {

// What becomes of written zeroes: bytes; WriteZeroes; or that, and their space is given back.
enum class DetectZeroes : uint8_t { kOff, kOn, kUnmap };

// What lies on the bytes of an image.
using DiskDriver = std::variant<BlkdebugOptions, PreallocationOptions>;

struct ImageSource;

// Several sources of the same bytes, of which so many have to agree.
struct QuorumSource {
  std::vector<std::shared_ptr<const ImageSource>> children;
  size_t threshold = 0;
};

struct CopyOnReadDriver {};
struct CompressDriver {};
// What lies on an image, below whoever uses it.
using GuestDriver = std::variant<BlkdebugOptions, CopyOnReadDriver, CompressDriver>;

// The image that a name or a description means, and how that wants it to be opened.
struct ImageSource {
  // Its bytes are in this local file, or,
  std::string path;
  std::optional<VoidDiskOptions> nowhere = std::nullopt;  // if this is set, nowhere at all;
  // or they are what a guest of this other image sees;
  std::shared_ptr<const ImageSource> image = nullptr;
  std::optional<QuorumSource> quorum = std::nullopt;  // or what these say.
  std::string bottom = {};        // the driver of that, where it is no image; empty: by the file
  std::vector<DiskDriver> below;  // the lowest first
  std::vector<GuestDriver> above;

  std::string format;          // empty: look at the bytes
  bool has_no_format = false;  // the bytes were asked for as they are, which is raw
  std::string driver;          // what is uppermost, where that is no format; for people
  bool read_only = false;      // "read-only": not for writing, whoever asks
  bool force_share = false;
  bool unlocked = false;                      // "locking": "off": neither takes nor respects locks
  std::optional<bool> direct = std::nullopt;  // "cache.direct"
  bool ignores_discards = false;              // "discard": "ignore"
  DetectZeroes detect_zeroes = DetectZeroes::kOff;
  ImageDescription options{{}};  // those of the format
  // Options of the format that make it another image, as they were said.
  std::map<std::string, std::string> distinctions = {};

  // All of it is in `path`, and in nothing else.
  bool is_in_file() const {
    return !nowhere.has_value() && image == nullptr && !quorum.has_value();
  }
  // A copy-on-read lies on it, which wants to write.
  bool copies_on_read() const;
};

// `name` is a path, "file:PATH", "blkdebug:CONFIG:PATH", "null-co://" or "json:{...}". A `format`
// that is not empty is what the caller insists on. InvalidArgument for names of other protocols
// ("nbd:...") and options that contradict each other, NotFound for nodes by name, Unimplemented for
// drivers and options that ringcow does not have; in QEMU's words.
absl::StatusOr<ImageSource> SourceOf(absl::string_view name, absl::string_view format);
absl::StatusOr<ImageSource> SourceOf(ImageDescription description, absl::string_view format);

// What the image's bytes are called in messages: the file's path, "null", or, where they are in
// another image, "FORMAT:" and what those are called.
std::string NameOf(const ImageSource& source);

// The same for what is below a format, its "file" or "data-file": a file unless it says otherwise.
// Only path, nowhere, image, quorum, below, and how they are to be opened, are set.
absl::Status TakeProtocol(ImageDescription options, ImageSource& source);

// What QEMU calls the node that the driver lies on: "image" or "file".
std::string ChildOf(absl::string_view driver);

// Whether QEMU takes the driver for one that bytes come from, as "file", not one that makes
// something of the bytes of another.
bool IsProtocol(absl::string_view driver);

// The image of that name, opened as `options` say. Errors as above.
absl::StatusOr<ImageDescription> DescriptionOf(absl::string_view name,
                                               std::map<std::string, std::string> options);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_IMAGE_SOURCE_H_
