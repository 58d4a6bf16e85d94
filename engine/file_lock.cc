#include "engine/file_lock.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr off_t kHeldBytes = 100;
constexpr off_t kNotSharedBytes = 200;

constexpr unsigned kConsistentRead = 1U << 0;
constexpr unsigned kWrite = 1U << 1;
constexpr unsigned kResize = 1U << 3;

constexpr absl::string_view kPermissionNames[] = {"consistent read", "write", "write unchanged",
                                                  "resize"};
constexpr int kPermissions = 4;

// Nobody else may change an image under a user who caches its metadata, reader or writer.
constexpr unsigned kNotShared = kWrite | kResize;

struct flock ByteLock(int16_t type, off_t byte) {
  struct flock lock{};  // l_pid must be zero
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

bool MeansNoLocks(int error) {
  return error == EINVAL || error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP;
}

// False when the file system has no locks.
absl::StatusOr<bool> TakeBytes(int fd, off_t base, unsigned permissions, const std::string& path) {
  for (int i = 0; i < kPermissions; ++i) {
    if ((permissions >> i & 1) == 0) continue;
    const struct flock lock = ByteLock(F_RDLCK, base + i);
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) continue;
    if (MeansNoLocks(errno)) return false;
    return ErrnoStatus(errno, absl::StrFormat("Failed to lock byte %d of '%s'", base + i, path));
  }
  return true;
}

// The first of `permissions` whose byte somebody else has.
absl::StatusOr<std::optional<int>> FindTaken(int fd, off_t base, unsigned permissions,
                                             const std::string& path) {
  for (int i = 0; i < kPermissions; ++i) {
    if ((permissions >> i & 1) == 0) continue;
    struct flock lock = ByteLock(F_WRLCK, base + i);
    if (fcntl(fd, F_OFD_GETLK, &lock) != 0) {
      return ErrnoStatus(errno, absl::StrFormat("Failed to test the locks of '%s'", path));
    }
    if (lock.l_type != F_UNLCK) return i;
  }
  return std::nullopt;
}

absl::Status InUse(absl::string_view kind, int permission, const std::string& path) {
  return absl::UnavailableError(
      absl::StrFormat("Failed to get %s\"%s\" lock\nIs another process using the image [%s]?", kind,
                      kPermissionNames[permission], path));
}

}  // namespace

absl::Status LockImageFile(int fd, LockMode mode, const std::string& path) {
  if (mode == LockMode::kNone) return absl::OkStatus();
  const unsigned held =
      mode == LockMode::kReader ? kConsistentRead : kConsistentRead | kWrite | kResize;
  for (const auto& [base, permissions] :
       {std::pair(kHeldBytes, held), std::pair(kNotSharedBytes, kNotShared)}) {
    ASSIGN_OR_RETURN(const bool has_locks, TakeBytes(fd, base, permissions, path));
    if (!has_locks) return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::optional<int> refused, FindTaken(fd, kNotSharedBytes, held, path));
  if (refused.has_value()) return InUse("", *refused, path);
  ASSIGN_OR_RETURN(const std::optional<int> foreign, FindTaken(fd, kHeldBytes, kNotShared, path));
  if (foreign.has_value()) return InUse("shared ", *foreign, path);
  return absl::OkStatus();
}

void UnlockImageFile(int fd) {
  struct flock lock = ByteLock(F_UNLCK, kHeldBytes);
  lock.l_len = kNotSharedBytes + kPermissions - kHeldBytes;
  (void)fcntl(fd, F_OFD_SETLK, &lock);  // fails only where there are no locks
}

}  // namespace ringcow
