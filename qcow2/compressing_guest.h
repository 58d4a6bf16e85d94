#ifndef RINGCOW_QCOW2_COMPRESSING_GUEST_H_
#define RINGCOW_QCOW2_COMPRESSING_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "engine/loop.h"
#include "engine/range_lock.h"
#include "qcow2/forwarding_disk.h"

namespace ringcow {

// A guest disk that stores compressed what is written to it: QEMU's compress driver. What covers a
// part of a cluster is written with the rest of it, read before; such writes exclude each other.
// Errors are those of GuestDisk::WriteCompressed: a cluster that is stored uncompressed stays so.
class CompressingGuest final : public ForwardingDisk {
 public:
  // `cluster_bytes`: what `disk` compresses at once, a power of two.
  CompressingGuest(Loop& loop, std::unique_ptr<GuestDisk> disk, uint64_t cluster_bytes)
      : ForwardingDisk(std::move(disk)), cluster_bytes_(cluster_bytes), changing_(loop) {}

  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override;
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) override;

 private:
  // Begins on a cluster, or lies inside one; zeroes, where `from` is empty.
  struct Piece {
    GuestOffset offset;
    uint64_t length = 0;
    std::span<const std::byte> from;
  };

  // The first piece of a request: whole clusters, or a part of one.
  Piece FirstPiece(GuestOffset offset, uint64_t length, std::span<const std::byte> from) const;
  Task<absl::Status> Change(GuestOffset offset, uint64_t length, std::span<const std::byte> from,
                            ZeroManner manner);
  Task<absl::Status> WriteAround(const Piece& piece);

  const uint64_t cluster_bytes_;
  RangeLock changing_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_COMPRESSING_GUEST_H_
