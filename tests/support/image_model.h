#ifndef RINGCOW_TESTS_SUPPORT_IMAGE_MODEL_H_
#define RINGCOW_TESTS_SUPPORT_IMAGE_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/loop.h"
#include "engine/range_lock.h"
#include "engine/task.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// Random requests to a virtual disk, compared with an array of bytes.
//
// Several coroutines run side by side. Their requests never share a byte (else nobody could say
// what is to be read), but clusters, sectors and L2 tables all the time.
class ImageModel {
 public:
  struct Workload {
    size_t workers = 4;
    size_t requests = 40;            // of each worker
    uint64_t cluster_bytes = 65536;  // what offsets and lengths are chosen around
    uint64_t large_bytes = 0;        // one request in 16 is up to as long
    uint32_t writes = 50;            // of 100 requests
    uint32_t flushes = 5;            // of 100
    uint32_t zeroes = 8;             // of 100
    uint32_t discards = 8;           // of 100
    uint32_t compressed = 0;         // of 100; what is left are reads
    bool discards_zero = true;       // whole clusters; else a discard changes nothing
  };

  // The disk reads as `bytes`. Everything that follows depends on the seed alone.
  ImageModel(Loop& loop, std::vector<std::byte> bytes, uint64_t seed)
      : bytes_(std::move(bytes)), random_(seed), in_use_(loop), loop_(loop) {}
  // The disk reads as zeroes.
  ImageModel(Loop& loop, uint64_t size, uint64_t seed)
      : ImageModel(loop, std::vector<std::byte>(size), seed) {}

  // The first request that failed, or DataLoss with where a read differed from the model.
  absl::Status Run(GuestDisk& disk, const Workload& workload);
  // Reads all of it.
  absl::Status Compare(GuestDisk& disk);

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  struct Range {
    uint64_t begin;
    uint64_t length;
  };

  Task<absl::Status> Work(GuestDisk& disk, Workload workload);
  Task<absl::Status> WriteRandom(GuestDisk& disk, Range range);
  Task<absl::Status> WriteCompressed(GuestDisk& disk, Range range, Workload workload);
  Task<absl::Status> ZeroRandom(GuestDisk& disk, Range range);
  Task<absl::Status> Discard(GuestDisk& disk, Range range, Workload workload);
  Task<absl::Status> ReadAndCompare(GuestDisk& disk, Range range);
  Range RandomRange(const Workload& workload);
  void FillRandom(std::span<std::byte> bytes);

  std::vector<std::byte> bytes_;
  std::mt19937_64 random_;
  RangeLock in_use_;  // bytes
  Loop& loop_;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_IMAGE_MODEL_H_
