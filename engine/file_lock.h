#ifndef RINGCOW_ENGINE_FILE_LOCK_H_
#define RINGCOW_ENGINE_FILE_LOCK_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace ringcow {

enum class LockMode : uint8_t {
  kNone,    // looks at no lock and takes none: QEMU's force-share (-U)
  kReader,  // with other readers, not with a writer
  kWriter,  // alone
};

// Locks an open image file as QEMU does, so that QEMU and ringcow refuse each other's images.
//
// QEMU numbers the permissions that a user of a file can hold: 0 consistent read, 1 write, 2 write
// unchanged, 3 resize. Permission i is held by a shared lock on byte 100 + i, and "nobody else may
// hold i" is said by a shared lock on byte 200 + i; after taking its own locks, a user tests that
// nobody has the bytes that contradict them. They are open file description locks: they go with
// the last descriptor of this opening, so closing another descriptor of the same file in this
// process does not lose them.
//
// Fails with kUnavailable and QEMU's words when the image is in use. A file system without locks is
// no failure. `path` is for the message.
absl::Status LockImageFile(int fd, LockMode mode, const std::string& path);

// Gives up all of them. Closing the descriptor is not enough: the kernel may hold the file a little
// longer for a request of an io_uring that has completed, and whoever opens it next is refused.
void UnlockImageFile(int fd);

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_FILE_LOCK_H_
