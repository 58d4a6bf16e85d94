#ifndef RINGCOW_CLI_TARGET_H_
#define RINGCOW_CLI_TARGET_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/cache_policy.h"
#include "cli/corruption_notice.h"
#include "cli/discard_mode.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/task.h"
#include "engine/worker_pool.h"
#include "qcow2/chain_files.h"
#include "qcow2/guest_disk.h"
#include "qcow2/image_chain.h"
#include "qcow2/image_description.h"
#include "qcow2/image_file.h"

namespace ringcow {

// A loop and its rings: what one run of a command does its I/O on.
struct Host {
  static absl::StatusOr<std::unique_ptr<Host>> Create();

  Loop loop;
  std::unique_ptr<Rings> rings;
  std::unique_ptr<WorkerPool> workers;  // its threads begin when they are needed
  CorruptionNotice corruption_notice;
};

// What --image-opts is, in the help of each command that has it.
inline constexpr char kImageOptionsHelp[] =
    "FILE is a list of options: driver=qcow2,file.filename=NAME";

struct TargetOptions {
  std::string format;  // empty: look at the file
  // The name is one of QEMU's lists of options, "driver=qcow2,file.filename=x" (--image-opts).
  bool image_options = false;
  // More of them, for a name that is a path.
  std::map<std::string, std::string> driver_options = {};
  bool read_only = true;
  bool force_share = false;
  bool copy_on_read = false;
  CachePolicy cache;
  DiscardMode discard = DiscardMode::kUnmap;
  std::optional<SnapshotChoice> snapshot = std::nullopt;  // as it was then; for reading only
  bool temporary = false;  // what is written is lost at the end (see temporary_overlay.h)
  std::optional<size_t> also_writable = std::nullopt;  // see ImageChainOptions
  bool without_backing = false;                        // the same
};

// The whole of what `name` and `options` say of the image, as options. Errors as those of SourceOf.
absl::StatusOr<ImageDescription> DescriptionOfTarget(const std::string& name,
                                                     const TargetOptions& options);

// For commands that need no more than the file, its backing files least of all. Errors do not name
// it once more: "<program>: Could not open 'x': " goes before them.
Task<absl::StatusOr<ImageFile>> OpenImageFile(Host& host, std::string name, TargetOptions options);

// The same with all the files that it needs: see ChainFilesOptions::for_check.
Task<absl::StatusOr<std::vector<ChainFiles>>> OpenFilesForCheck(Host& host, std::string name,
                                                                TargetOptions options);

// An image open for I/O, as a guest sees it. Close it (guest().Close()) before it is destroyed, or
// what was not flushed is lost.
class Target {
 public:
  // Errors do not name the image, as those of OpenImageFile.
  static Task<absl::StatusOr<Target>> Open(Host& host, std::string name, TargetOptions options);

  GuestDisk& guest() const { return *guest_; }
  // What is behind guest(): to be looked at, and for what only qcow2 has.
  const ImageChain& chain() const { return *chain_; }
  const ImageFile& file() const { return chain_->file(); }
  // Instead of guest().Close(), the one and then the other, by who changes the image's file when
  // the image is closed.
  Task<absl::Status> CloseImages() const { return chain_->CloseImages(); }
  Task<absl::Status> CloseFiles() const { return chain_->CloseFiles(); }

 private:
  Target(ImageChain* chain, std::unique_ptr<GuestDisk> guest)
      : chain_(chain), guest_(std::move(guest)) {}

  ImageChain* chain_;  // guest_ owns it
  std::unique_ptr<GuestDisk> guest_;
};

// "Could not open 'x': ...", or what is wrong with how the user named the image.
absl::Status CouldNotOpen(const std::string& name, const TargetOptions& options,
                          const absl::Status& why);

// Target::Open as a command does it on what its user named: errors name the image, and who may
// write to an image of a guessed format is warned.
Task<absl::StatusOr<Target>> OpenTarget(Host& host, std::string name, TargetOptions options);

}  // namespace ringcow

#endif  // RINGCOW_CLI_TARGET_H_
