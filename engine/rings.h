#ifndef RINGCOW_ENGINE_RINGS_H_
#define RINGCOW_ENGINE_RINGS_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/counters.h"
#include "engine/loop.h"
#include "engine/request.h"
#include "engine/ring.h"

namespace ringcow {

// The io_urings of one loop, which all its disks share: one for each lane.
//
// The data ring runs completions only when its thread asks for them (DEFER_TASKRUN), which is the
// cheapest. The metadata ring is a plain one: there the kernel starts the next member of a chain by
// itself, also while the thread computes, and a drain on it stalls no guest data. It carries
// metadata I/O and nothing else: a pending poll would hold its drains back for good.
//
// The loop sleeps in the data ring's io_uring_enter, which watches the metadata ring while that has
// requests in flight; when only the metadata ring has any, the loop sleeps there. Drained chains on
// the data ring (for measurements only) end the watch for good: from then on completions of
// metadata are noticed when data completes.
class Rings final : public CompletionSource {
 public:
  struct Options {
    unsigned sq_entries = 256;           // the data ring's; a power of two
    unsigned cq_entries = 4096;          // requests in flight on it at most
    unsigned metadata_sq_entries = 256;  // also the longest chain
    unsigned metadata_cq_entries = 1024;
    // Of the data ring: see Ring::Setup.
    unsigned batch_share = 2;
    int64_t batch_nanoseconds = 12'000;
    // Keep the disks' files in the rings' tables (the first 64 of them, Linux 5.19): a request
    // costs one or two hundredths less. After a kill the kernel takes rings apart in its own time,
    // and such a file stays open, and an image locked, until then: who starts again at once finds
    // it in use.
    bool register_files = false;
    // An fsync that is all there is to wait for, or the chain that has it, is called by the loop's
    // thread. io_uring would wake a thread of its own to wait for the disk, and that one ours
    // again.
    bool sync_inline = true;
    // IORING_SETUP_* flags that may be used where the kernel has them. For measurements.
    unsigned allowed_flags = ~0U;
  };

  // On the thread that will run the loop. Linux 5.15 is enough. Errors: one sentence that says why
  // there is no io_uring (the kernel has none, or it is forbidden here).
  // Where memory is short the rings are smaller, and notices() says so.
  static absl::StatusOr<std::unique_ptr<Rings>> Create(Loop& loop, const Options& options);
  static absl::StatusOr<std::unique_ptr<Rings>> Create(Loop& loop) {
    return Create(loop, Options());
  }
  Rings(const Rings&) = delete;
  Rings& operator=(const Rings&) = delete;
  // All disks on the rings are gone by then.
  ~Rings() override;

  void Queue(Request& request) { LaneRing(request.lane).Queue(request); }
  void Queue(Chain& chain) { LaneRing(chain.lane()).Queue(chain); }

  void Submit() override;
  void Reap() override;
  size_t outstanding() const override { return data_->requests() + metadata_->requests(); }
  void Wait() override;

  // Registers memory that guest data is often read into and written from, until UnregisterMemory or
  // the end of the rings: each such request then saves pinning and releasing its pages. Requests
  // may use any other memory just as well. At most 64 pieces of at most 1 GiB. Errors: ENOMEM (see
  // ulimit -l), ENOSPC for one piece too many, and EINVAL before Linux 5.19.
  absl::Status RegisterMemory(std::span<std::byte> memory);
  // `memory` as it was registered; none of it is in use.
  void UnregisterMemory(std::span<std::byte> memory);
  // The slot of the registered memory that all of `memory` lies in.
  std::optional<unsigned> SlotOf(const iovec& memory) const;

  // A slot that both rings keep `fd` in until UnregisterFile; none where register_files is off, the
  // kernel cannot, or all slots are in use: then requests name the descriptor itself.
  std::optional<unsigned> RegisterFile(int fd);
  // No request for it is under way.
  void UnregisterFile(unsigned slot);

  Loop& loop() { return loop_; }
  size_t max_chain() const;
  // What this kernel does not offer, a sentence each; for front ends to say once.
  const std::vector<std::string>& notices() const { return notices_; }

  const RingCounters& counters() const { return counters_; }
  void ResetCounters() { counters_ = RingCounters(); }

 private:
  Rings(Loop& loop, const Options& options)
      : loop_(loop),
        sync_inline_(options.sync_inline),
        file_slots_(options.register_files ? Ring::kFileSlots : 0) {}

  Ring& LaneRing(Lane lane) { return lane == Lane::kData ? *data_ : *metadata_; }

  bool FinishedLoneFsync();

  Loop& loop_;
  const bool sync_inline_;
  RingCounters counters_;
  std::vector<std::string> notices_;
  std::vector<std::span<std::byte>> registered_memory_;  // by slot; empty: free
  std::vector<bool> file_slots_;                         // which of them are in use
  std::unique_ptr<Ring> metadata_;
  std::unique_ptr<Ring> data_;  // after the ring it watches, so that it goes first
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_RINGS_H_
