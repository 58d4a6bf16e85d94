#ifndef RINGCOW_QCOW2_COPY_LOOP_H_
#define RINGCOW_QCOW2_COPY_LOOP_H_

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/loop.h"
#include "engine/mutex.h"
#include "engine/task.h"
#include "engine/wait_list.h"
#include "qcow2/copy_source.h"
#include "qcow2/guest_disk.h"
#include "qcow2/host_copy.h"
#include "qcow2/rate_limit.h"

namespace ringcow {

using CopyProgress = std::function<void(uint64_t done, uint64_t all)>;

// A sector of the source that could not be read, or of which nobody could tell what it is.
struct Unreadable {
  bool is_status = false;  // the latter
  uint64_t offset = 0;
  absl::Status why;
};

struct CopyOptions {
  unsigned parallel = 8;             // requests under way
  uint64_t request_bytes = 2 << 20;  // of one, at most
  uint64_t min_zeroes = 4096;        // FirstSparseRun's: where data is looked at for zeroes
  bool fills = false;                // zeroes are written like data, so that they have space
  bool target_is_zero = false;       // zeroes need no writing at all
  ZeroManner zero_manner = ZeroManner::kKeepSpace;
  bool out_of_order = false;
  // Data is stored compressed, in whole clusters of this many bytes of the target. 0: as it is.
  uint64_t compressed_cluster = 0;
  // Data is left to the host where that can copy it, as it is, zeroes and all. Null: none.
  HostCopy* host_copy = nullptr;
  uint64_t bytes_per_second = 0;  // that are written, at most; 0: as many as can be
  // Who is told which sectors cannot be read, which become zeroes, and of which nobody can tell
  // what they are, which are read: of these twice, once while the bytes to copy are counted. In the
  // order of their offsets, unless that does not matter. Empty: either ends the copy.
  std::function<void(const Unreadable& sector)> on_unreadable = nullptr;
  // Who is told how many of all the bytes that are written have been taken on. Empty: nobody.
  CopyProgress on_progress = nullptr;
};

// Copies a source to a target that is at least as large. Several pieces at once are read and
// written; writes begin in the order of their offsets, unless that does not matter, so that a
// target is laid out as its guest sees it.
class CopyLoop {
 public:
  // All must outlive the loop.
  CopyLoop(Loop& loop, const CopySource& source, GuestDisk& target, CopyOptions options)
      : loop_(loop),
        source_(source),
        target_(target),
        options_(std::move(options)),
        claiming_(loop),
        rate_(loop, options_.bytes_per_second),
        turn_changed_(loop) {}

  // Fails like QEMU, with the byte where it happened: "error while writing at byte 0: ...". The
  // target is not flushed.
  Task<absl::Status> Run();

 private:
  struct Piece {
    CopyPiece piece;
    uint64_t offset = 0;
    uint64_t turn = 0;
    std::vector<Unreadable> unreadable = {};  // to be told in its turn
  };

  bool IsWritten(CopyPiece::Kind kind) const;
  Task<absl::StatusOr<uint64_t>> BytesToWrite();
  Task<absl::Status> Work();
  // Whole clusters, where those are to be compressed: one that is data in part is data.
  CopyPiece InWholeClusters(CopyPiece piece) const;
  // What the bytes from `offset` on are; where that is wanted, also if only a sector tells nothing.
  Task<absl::StatusOr<CopyPiece>> Find(uint64_t offset, std::vector<Unreadable>& unreadable) const;
  // As Read, and zeroes for sectors that cannot be read, where that is wanted.
  Task<absl::Status> ReadOrSalvage(Piece& piece, std::span<std::byte> into);
  void Tell(std::vector<Unreadable>& unreadable) const;
  // The next piece in the order of offsets; of no bytes at the end.
  Task<absl::StatusOr<Piece>> Claim();
  Task<absl::Status> Copy(Piece piece, std::span<std::byte> memory);
  Task<bool> CopyOnHost(const Piece& piece);
  Task<absl::Status> Write(const Piece& piece, std::span<const std::byte> bytes);
  Task<absl::Status> WriteCompressed(uint64_t offset, std::span<const std::byte> bytes);
  Task<absl::Status> WriteRun(uint64_t offset, std::span<const std::byte> bytes, bool zero);
  Task<absl::Status> WaitForTurn(const Piece& piece);
  void EndTurn();

  Loop& loop_;
  const CopySource& source_;
  GuestDisk& target_;
  const CopyOptions options_;
  Mutex claiming_;
  RateLimit rate_;
  uint64_t next_ = 0;  // the offset of what was not claimed yet
  uint64_t claims_ = 0;
  uint64_t turn_ = 0;  // whose writes may begin
  WaitList turn_changed_;
  bool failed_ = false;
  uint64_t done_ = 0;  // of all_, for on_progress
  uint64_t all_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_COPY_LOOP_H_
