#ifndef RINGCOW_BENCH_THROW_AWAY_DIRECTORY_H_
#define RINGCOW_BENCH_THROW_AWAY_DIRECTORY_H_

#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// A directory of our own that is gone, with all that is in it, when the program ends: when this is
// destroyed, and also on SIGINT, SIGTERM, SIGHUP and SIGPIPE, which end the program with their
// usual exit code (128 + signal). For that these signals are blocked in the thread that creates it
// (before it starts others) and waited for in a thread of its own; so there is one at a time.
class ThrowAwayDirectory {
 public:
  // Inside `parent`. The errno's status, naming `parent`, when that is missing or not writable.
  static absl::StatusOr<ThrowAwayDirectory> Create(absl::string_view parent);
  ThrowAwayDirectory(ThrowAwayDirectory&& other) noexcept
      : path_(std::exchange(other.path_, {})), watcher_(std::move(other.watcher_)) {}
  ThrowAwayDirectory& operator=(ThrowAwayDirectory&&) = delete;
  ~ThrowAwayDirectory();

  const std::string& path() const { return path_; }
  std::string File(absl::string_view name) const;

 private:
  explicit ThrowAwayDirectory(std::string path);

  std::string path_;  // empty when moved from
  std::thread watcher_;
};

// Removes a file that may have been written in scattered order. Its space is made one piece first:
// a file system that discards what it frees, extent by extent, takes seconds else.
void RemoveFile(const std::string& path);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_THROW_AWAY_DIRECTORY_H_
