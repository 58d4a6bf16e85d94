#ifndef RINGCOW_ENGINE_CHAIN_H_
#define RINGCOW_ENGINE_CHAIN_H_

#include <coroutine>
#include <cstddef>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/request.h"

namespace ringcow {

class Disk;

// Writes and fsyncs that happen strictly one after the other, each only when the one before it
// succeeded in full:
//
//   Chain chain = disk.NewChain();
//   chain.Write(a, ...).Fdatasync().Write(b, ...);
//   absl::Status status = co_await chain;   // `b` was written only if `a` is durable
//
// On io_uring the members are SQEs joined by IOSQE_IO_LINK, submitted by one io_uring_enter, with
// IOSQE_IO_DRAIN at the head: the chain starts when all that was submitted on its ring before has
// completed. A failed or short write breaks the link: the members behind it end with ECANCELED,
// nothing of them is written. (IOSQE_IO_HARDLINK would go on; it is never used.)
//
// The Chain and the memory of its writes must live until the await returns; afterwards error(i)
// tells what became of each member. Invariants, for whoever builds a chain to keep: offsets,
// lengths and memory are aligned to Disk::alignment(), and it has at most Disk::max_chain()
// members.
class Chain {
 public:
  Chain& Write(HostOffset offset, std::span<const std::byte> bytes, Content content);
  Chain& Fdatasync();

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

  void Start(std::coroutine_handle<> waiter);
  absl::Status FirstFailure() const;

  Disk& disk_;
  std::vector<Request> members_;
  std::coroutine_handle<> waiter_;
  size_t unfinished_ = 0;
  Lane lane_ = Lane::kMetadata;
  bool drained_ = true;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_CHAIN_H_
