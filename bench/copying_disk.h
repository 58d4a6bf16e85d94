#ifndef RINGCOW_BENCH_COPYING_DISK_H_
#define RINGCOW_BENCH_COPYING_DISK_H_

#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "engine/buffer_pool.h"
#include "engine/task.h"
#include "qcow2/forwarding_disk.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// A raw disk that copies on write as an engine without any metadata would: what of a cluster a
// write does not cover is read from `base`, at the same offset, and the cluster is written whole.
// That is the ceiling for images that have to copy: nothing is looked up, ordered or kept.
class CopyingDisk final : public ForwardingDisk {
 public:
  // `base` outlives it, and is as large.
  CopyingDisk(std::unique_ptr<GuestDisk> disk, GuestDisk& base)
      : ForwardingDisk(std::move(disk)), base_(base) {}

  // Inside one cluster (kBenchClusterBytes).
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override;

 private:
  GuestDisk& base_;
  BufferPool clusters_;
};

}  // namespace ringcow

#endif  // RINGCOW_BENCH_COPYING_DISK_H_
