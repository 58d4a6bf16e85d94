#ifndef RINGCOW_CLI_BENCH_RUN_H_
#define RINGCOW_CLI_BENCH_RUN_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "engine/io_memory.h"
#include "engine/loop.h"
#include "engine/scope.h"
#include "engine/task.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// The pattern of requests that qemu-img bench makes.
struct BenchPattern {
  uint64_t count = 75000;
  uint64_t depth = 64;  // requests under way at a time
  uint64_t size = 4096;
  uint64_t step = 0;  // from one request's offset to the next one's; 0: size
  uint64_t offset = 0;
  bool write = false;
  uint8_t byte = 0;             // what is written
  uint64_t flush_interval = 0;  // a flush every so many requests; 0: none
  // Whether nothing else is under way during a flush.
  bool drain = true;
};

// Sends the requests of one pattern to a disk. At the end of the disk, offsets begin anew at its
// start.
class BenchRun {
 public:
  // All must outlive the run.
  BenchRun(Loop& loop, GuestDisk& disk, const BenchPattern& pattern);

  // Gets the memory: before the clock is started.
  absl::Status Prepare();
  // The first failure, said as qemu-img does.
  Task<absl::Status> Run();

 private:
  Task<absl::Status> RunUntil(uint64_t end);
  Task<absl::Status> Lane(uint64_t lane, uint64_t end);
  Task<absl::Status> Request(uint64_t lane);
  Task<absl::Status> Flush();

  Loop& loop_;
  GuestDisk& disk_;
  const BenchPattern pattern_;
  const uint64_t lanes_;
  IoMemory memory_;
  uint64_t next_offset_;
  uint64_t issued_ = 0;
  uint64_t done_ = 0;
  bool failed_ = false;
  Scope flushes_;  // that nobody waits for until the end
};

}  // namespace ringcow

#endif  // RINGCOW_CLI_BENCH_RUN_H_
