#include "bench/throw_away_directory.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/errno_status.h"
#include "engine/file_descriptor.h"

namespace ringcow {
namespace {

constexpr off_t kStatBlockBytes = 512;  // the unit of st_blocks
constexpr int kDestroyed = SIGUSR1;     // from the destructor to the watcher: nothing left to watch

sigset_t WatchedSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, kDestroyed}) {
    sigaddset(&signals, signal);
  }
  return signals;
}

// The other threads may still be adding files to it.
void RemoveAll(const std::string& path) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    if (entry.is_regular_file(error)) RemoveFile(entry.path());
  }
  for (int attempt = 0; attempt < 10; ++attempt) {
    std::filesystem::remove_all(path, error);
    if (!error) return;
  }
  std::fprintf(stderr, "alloc_bench: could not remove '%s': %s\n", path.c_str(),
               error.message().c_str());
}

void Watch(const std::string& path) {
  const sigset_t signals = WatchedSignals();
  siginfo_t info{};
  while (sigwaitinfo(&signals, &info) < 0) {
  }
  if (info.si_signo == kDestroyed && info.si_pid == getpid()) return;
  RemoveAll(path);
  _exit(128 + info.si_signo);
}

}  // namespace

void RemoveFile(const std::string& path) {
  {
    const FileDescriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    struct stat status{};
    // Filling large holes would cost more than it saves.
    const bool is_whole = file.get() >= 0 && fstat(file.get(), &status) == 0 &&
                          status.st_size / kStatBlockBytes <= status.st_blocks / 8 * 9;
    // A hint: where it does not work the file is removed all the same.
    if (is_whole) fallocate(file.get(), FALLOC_FL_ZERO_RANGE, 0, status.st_size);
  }
  unlink(path.c_str());
}

absl::StatusOr<ThrowAwayDirectory> ThrowAwayDirectory::Create(absl::string_view parent) {
  const sigset_t signals = WatchedSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::string path = absl::StrCat(parent, "/ringcow-bench-XXXXXX");
  if (mkdtemp(path.data()) == nullptr) {
    return ErrnoStatus(errno, absl::StrCat("Could not make a directory in '", parent, "'"));
  }
  return ThrowAwayDirectory(std::move(path));
}

ThrowAwayDirectory::ThrowAwayDirectory(std::string path)
    : path_(std::move(path)), watcher_(Watch, path_) {}

ThrowAwayDirectory::~ThrowAwayDirectory() {
  if (path_.empty()) return;
  pthread_kill(watcher_.native_handle(), kDestroyed);
  watcher_.join();
  RemoveAll(path_);
}

std::string ThrowAwayDirectory::File(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

}  // namespace ringcow
