#include "qcow2/guest_disk.h"

#include <cerrno>

#include "engine/errno_status.h"

namespace ringcow {

Task<absl::Status> GuestDisk::WriteCompressed(GuestOffset /*offset*/,
                                              std::span<const std::byte> /*from*/) {
  co_return ErrnoStatus(ENOTSUP, "the image format has no compressed clusters");
}

}  // namespace ringcow
