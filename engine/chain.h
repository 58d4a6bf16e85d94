#ifndef RINGCOW_ENGINE_CHAIN_H_
#define RINGCOW_ENGINE_CHAIN_H_

#include <coroutine>
#include <cstddef>
#include <span>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "engine/request.h"

namespace ringcow {

class Disk;

// Reads, writes and fsyncs that happen strictly one after the other, each only when the one before
// it succeeded in full:
//
//   Chain chain = disk.NewChain();
//   chain.Write(a, ...).Fdatasync().Write(b, ...);
//   absl::Status status = co_await chain;   // `b` was written only if `a` is durable
//
// On io_uring the members are SQEs joined by IOSQE_IO_LINK, submitted by one io_uring_enter, with
// IOSQE_IO_DRAIN at the head: the chain starts when all that was submitted on its ring before has
// completed. A failed or short transfer breaks the link: the members behind it end with ECANCELED,
// nothing of them is written. (IOSQE_IO_HARDLINK would go on; it is never used.) A chain with an
// fsync beside which there is nothing else on the rings is carried out piece by piece instead, each
// fsync by the loop's thread (see Rings::Options::sync_inline).
//
// A read may be from another disk, and a write of what it read may follow: bytes are then copied
// without the thread having to wake up in between.
//
// The Chain and the memory of its members must live until the await returns; afterwards error(i)
// tells what became of each member. Nothing is tried again or continued: EINTR, EAGAIN, and EIO for
// a short transfer are the caller's to deal with. Invariants, for whoever builds a chain to keep:
// is_possible() is true.
class Chain {
 public:
  Chain& Write(HostOffset offset, std::span<const std::byte> bytes, Content content);
  // `vectors` must outlive the await.
  Chain& WriteV(HostOffset offset, std::span<const iovec> vectors, Content content);
  // Inside `from`, which the chain's disk can be linked with (Disk::CanLink).
  Chain& Read(Disk& from, HostOffset offset, std::span<std::byte> into, Content content);
  Chain& Fdatasync();

  // Offsets, lengths and memory are aligned to each disk's alignment, and there are at most
  // Disk::max_chain() members.
  bool is_possible() const;

  // For measurements: no drain, or on the ring of guest data. The default is drained, kMetadata.
  Chain& WithoutDrain();
  Chain& OnLane(Lane lane);

  size_t size() const { return members_.size(); }
  bool drained() const { return drained_; }
  Lane lane() const { return lane_; }
  std::span<Request> members() { return members_; }

  // The errno of member i after the await: 0, or ECANCELED behind the first failure, or EIO for a
  // short write.
  int error(size_t i) const { return members_[i].error; }

  auto operator co_await() & {
    struct Awaiter {
      Chain& chain;
      bool await_ready() const { return chain.members_.empty(); }
      void await_suspend(std::coroutine_handle<> waiter) const { chain.Start(waiter); }
      absl::Status await_resume() const { return chain.FirstFailure(); }
    };
    return Awaiter{*this};
  }

 private:
  friend class Disk;

  explicit Chain(Disk& disk) : disk_(disk) {}

  Request& Append(Disk& disk, Op op, HostOffset offset, Content content);
  void Start(std::coroutine_handle<> waiter);
  absl::Status FirstFailure() const;

  Disk& disk_;
  absl::InlinedVector<Request, 3> members_;  // most are as short
  std::coroutine_handle<> waiter_;
  size_t unfinished_ = 0;
  Lane lane_ = Lane::kMetadata;
  bool drained_ = true;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_CHAIN_H_
