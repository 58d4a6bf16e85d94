#ifndef RINGCOW_CLI_TARGET_H_
#define RINGCOW_CLI_TARGET_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cli/cache_policy.h"
#include "cli/image_format.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/task.h"
#include "engine/uring_disk.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// A loop and its rings: what one run of a command does its I/O on.
struct Host {
  static absl::StatusOr<std::unique_ptr<Host>> Create();

  Loop loop;
  std::unique_ptr<Rings> rings;
};

// The path of a local file that a command line names: "disk.qcow2", "file:disk.qcow2". Fails for
// the names of other protocols ("nbd:...", "json:{...}").
absl::StatusOr<std::string> LocalPath(absl::string_view name);

// `status` without the "'name': " of its disk, for messages that name the image themselves.
absl::Status WithoutName(const absl::Status& status, const Disk& disk);

struct TargetOptions {
  std::string format;  // empty: look at the file
  bool read_only = true;
  bool force_share = false;
  CachePolicy cache;
};

// An image file that a command works on, open, its format known.
class ImageFile {
 public:
  // Errors do not name the file once more: "<program>: Could not open 'x': " goes before them.
  static Task<absl::StatusOr<ImageFile>> Open(Host& host, std::string name, TargetOptions options);

  UringDisk& disk() const { return *disk_; }
  ImageFormat format() const { return format_; }
  // Nobody said that it is raw; it only looks like no other format.
  bool guessed_raw() const { return guessed_raw_; }

 private:
  ImageFile(std::unique_ptr<UringDisk> disk, ImageFormat format, bool guessed_raw)
      : disk_(std::move(disk)), format_(format), guessed_raw_(guessed_raw) {}

  std::unique_ptr<UringDisk> disk_;
  ImageFormat format_;
  bool guessed_raw_;
};

// An image open for I/O, as a guest sees it. Close it (guest().Close()) before it is destroyed, or
// what was not flushed is lost.
class Target {
 public:
  static Task<absl::StatusOr<Target>> Open(Host& host, std::string name, TargetOptions options);

  GuestDisk& guest() const { return *guest_; }
  const ImageFile& file() const { return file_; }

 private:
  Target(ImageFile file, std::unique_ptr<GuestDisk> guest)
      : file_(std::move(file)), guest_(std::move(guest)) {}

  ImageFile file_;
  std::unique_ptr<GuestDisk> guest_;  // uses file_'s disk, so it goes first
};

}  // namespace ringcow

#endif  // RINGCOW_CLI_TARGET_H_
