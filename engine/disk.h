#ifndef RINGCOW_ENGINE_DISK_H_
#define RINGCOW_ENGINE_DISK_H_

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "engine/buffer_pool.h"
#include "engine/chain.h"
#include "engine/counters.h"
#include "engine/host_offset.h"
#include "engine/loop.h"
#include "engine/range_lock.h"
#include "engine/request.h"
#include "engine/task.h"
#include "engine/wait_list.h"

namespace ringcow {

class Disk;

// Bytes of a disk that are alike, as the host's metadata tells without reading them.
struct DiskExtent {
  uint64_t bytes = 0;  // from the offset that was asked about on
  bool hole = false;   // nothing is stored: they read as zeroes
};

// Awaits one request: `absl::Status s = co_await disk.Read(offset, bytes);`. The request is
// embedded here, so it lives in the frame of the coroutine that waits for it.
class [[nodiscard]] IoAwaiter {
 public:
  IoAwaiter(Disk& disk, const Request& request) : disk_(disk), request_(request) {}

  bool await_ready() const { return request_.length == 0 && request_.is_transfer(); }
  void await_suspend(std::coroutine_handle<> waiter);
  absl::Status await_resume() const;

  int error() const { return request_.error; }  // errno, after the await

 private:
  Disk& disk_;
  Request request_;
};

// The seam between everything above and the host's storage: a file or a block device through
// io_uring (UringDisk), or memory with faults (testing/SimDisk).
//
// Any offset and length may be read and written; requests that are not multiples of alignment() (in
// offset, length or memory address) go through an aligned buffer and cost a copy, and a write also
// a read of the blocks it covers in part. Such a read-modify-write excludes overlapping writes (a
// chain's too), zeroings, punches and truncations, so neighbouring bytes changed at the same time
// are never lost. Where it extends the disk, the size becomes a multiple of alignment().
//
// A read beyond the end of the disk gives zeroes, as qcow2 readers expect of a file that ends
// inside a cluster. Short transfers are continued until they are whole or fail. Writes become
// durable with an Fdatasync that is submitted after they completed, never by themselves (but for
// dsync); so do changes of size.
//
// Errors: the errno's canonical status (absl::ErrnoToStatus) naming the operation, its offset,
// length and content, and the disk. All memory belongs to the caller until the await returns.
// Not thread-safe: a disk belongs to its loop's thread.
class Disk {
 public:
  virtual ~Disk();
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  IoAwaiter Read(HostOffset offset, std::span<std::byte> into, Content content = Content::kData);
  IoAwaiter Write(HostOffset offset, std::span<const std::byte> from,
                  Content content = Content::kData);
  // Durable on completion, together with nothing else: earlier writes need an Fdatasync.
  IoAwaiter WriteDurably(HostOffset offset, std::span<const std::byte> from, Content content);
  // Scatter and gather; `vectors` must outlive the await. At most IOV_MAX vectors.
  IoAwaiter ReadV(HostOffset offset, std::span<const iovec> into, Content content = Content::kData);
  IoAwaiter WriteV(HostOffset offset, std::span<const iovec> from,
                   Content content = Content::kData);

  // Makes durable every write, zeroing, punch and size change that completed before this call.
  IoAwaiter Fdatasync();

  // fallocate's modes. A disk without them answers absl::StatusCode::kUnimplemented (EOPNOTSUPP).
  IoAwaiter WriteZeroes(HostOffset offset, uint64_t length, Content content = Content::kData);
  IoAwaiter Punch(HostOffset offset, uint64_t length);
  IoAwaiter Allocate(HostOffset offset, uint64_t length);
  // Not for hot paths: the file system call is made on the loop's thread.
  IoAwaiter Truncate(uint64_t size);

  // What the bytes from `offset` on are: at least one of them, at most `length` > 0. Whoever cannot
  // tell says that all are stored. Not for hot paths: it may make file system calls on the loop's
  // thread.
  virtual DiskExtent Find(HostOffset offset, uint64_t length) const;

  Chain NewChain() { return Chain(*this); }
  // May reads from `other` be members of this disk's chains?
  virtual bool CanLink(const Disk& other) const { return this == &other; }

  uint64_t size() const { return size_; }            // bytes
  uint32_t alignment() const { return alignment_; }  // bytes, a power of two, 1 when it is buffered
  size_t max_chain() const { return max_chain_; }    // members
  const std::string& name() const { return name_; }  // for messages
  Loop& loop() { return loop_; }

  // Completed writes, zeroings, punches and size changes: equal before and after means that there
  // is nothing new for an Fdatasync to make durable.
  uint64_t changes() const { return changes_; }

  // How often size() has changed.
  uint64_t size_changes() const { return size_changes_; }

  const DiskCounters& counters() const { return counters_; }
  void ResetCounters() { counters_ = DiskCounters(); }

 protected:
  struct Properties {
    std::string name;
    uint64_t size = 0;
    uint32_t alignment = 512;
    uint32_t memory_alignment = 512;
    size_t max_chain = 64;
  };

  Disk(Loop& loop, const Properties& properties);

  // Begins `request` (aligned) or all of `chain` (aligned, at most max_chain() members; drained and
  // on the lane it asks for). When a request has completed, Finish is called for it, on the loop's
  // thread, with the bytes transferred or a negative errno. Both may be called from anywhere but
  // from within Finish's caller's own bookkeeping of the same request.
  virtual void Start(Request& request) = 0;
  virtual void StartChain(Chain& chain) = 0;

  void Finish(Request& request, int64_t result);

 private:
  friend class Chain;
  friend class IoAwaiter;

  void Submit(Request& request);
  void Begin(Request& request);
  void SubmitChain(Chain& chain);
  void BeginChain(Chain& chain);
  void Count(const Request& request);

  bool IsAligned(const Request& request) const;
  bool OverlapsReadModifyWrite(const Request& request) const;
  Task<void> SubmitAfterReadModifyWrites(Request& request);
  Task<void> SubmitChainAfterReadModifyWrites(Chain& chain);
  Task<void> Bounce(Request& request);
  Task<int> BounceRead(Request& request);
  Task<int> BounceWrite(Request& request);
  Task<int> ReadPartialBlocks(const Request& request, std::span<std::byte> blocks,
                              HostOffset begin);

  void SetSize(uint64_t size);
  void Complete(Request& request, int error);
  void FinishMember(Request& member, int64_t result);
  void Shorten(Request& request, uint64_t transferred);
  Task<void> TransferRest(Request& request, uint64_t from);

  // What changes bytes and is in flight, newest first, so that a read-modify-write can see what it
  // overlaps.
  void LinkWrite(Request& request);
  void UnlinkWrite(Request& request);
  bool OverlapsWriteInFlight(HostOffset begin, HostOffset end) const;

  absl::Status StatusOf(const Request& request) const;

  Loop& loop_;
  const std::string name_;
  uint64_t size_;
  const uint32_t alignment_;
  const uint32_t memory_alignment_;
  const size_t max_chain_;
  uint64_t changes_ = 0;
  uint64_t size_changes_ = 0;
  Request* newest_write_ = nullptr;
  DiskCounters counters_;
  BufferPool buffers_;
  RangeLock read_modify_writes_;
  WaitList write_finished_;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_DISK_H_
