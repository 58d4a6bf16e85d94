#ifndef RINGCOW_ENGINE_REQUEST_H_
#define RINGCOW_ENGINE_REQUEST_H_

#include <sys/uio.h>

#include <coroutine>
#include <cstdint>
#include <span>

#include "engine/counters.h"
#include "engine/host_offset.h"

namespace ringcow {

class Chain;
class Disk;
class RingClient;

enum class Op : uint8_t {
  kRead,
  kWrite,
  kFdatasync,
  kWriteZeroes,  // reads as zeroes afterwards; allocated where the filesystem can
  kPunch,        // reads as zeroes afterwards; given back where the filesystem can
  kAllocate,     // fallocate: space is reserved, the size grows, contents stay
  kTruncate,     // the size becomes offset; what lies beyond is gone, a hole reads as zeroes
};

// Which ring carries a request. A drain stalls its whole ring, so ordered metadata write-back has
// one of its own and guest data never waits for it.
enum class Lane : uint8_t { kData, kMetadata };

// One I/O request of a disk. It lives in the awaiter (in the waiting coroutine's frame) or in a
// Chain, and does not move from Submit until its completion.
struct Request {
  Op op = Op::kRead;
  Content content = Content::kData;
  Lane lane = Lane::kData;
  bool dsync = false;  // kWrite: durable when it completes (RWF_DSYNC)

  HostOffset offset;    // bytes
  uint64_t length = 0;  // bytes; for kRead and kWrite the sum of the vectors' lengths

  // The memory of kRead and kWrite: `vectors` when set, else `single`.
  iovec single{nullptr, 0};
  std::span<const iovec> vectors;

  // The outcome, valid once `waiter` was posted: an errno, 0 on success.
  int error = 0;

  // The disk's size when the request was handed over.
  uint64_t disk_size = 0;

  // Part of an operation that already excludes overlapping read-modify-writes.
  bool holds_range = false;

  std::coroutine_handle<> waiter;
  Chain* chain = nullptr;  // set for a chain's member
  Disk* disk = nullptr;    // a chain's member's, which need not be the chain's

  // Links of the disk that works on the request.
  Request* next = nullptr;
  RingClient* ring_client = nullptr;
  Request* newer_write = nullptr;
  Request* older_write = nullptr;

  std::span<const iovec> memory() const {
    return vectors.empty() ? std::span<const iovec>(&single, 1) : vectors;
  }
  HostOffset end() const { return offset + length; }
  bool is_transfer() const { return op == Op::kRead || op == Op::kWrite; }
  // Afterwards some bytes may read differently.
  bool changes_bytes() const {
    return op == Op::kWrite || op == Op::kWriteZeroes || op == Op::kPunch || op == Op::kTruncate;
  }
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_REQUEST_H_
