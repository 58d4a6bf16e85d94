#ifndef RINGCOW_BENCH_NULL_DISK_H_
#define RINGCOW_BENCH_NULL_DISK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/disk.h"
#include "engine/loop.h"
#include "engine/request.h"

namespace ringcow {

// A disk that costs next to nothing, for counting what the engine itself costs. Requests complete a
// turn after they were handed over, in that order, and all succeed. Metadata is kept, in memory;
// guest data is thrown away, and what reads it finds what its memory held before. There is no
// kernel in it, so that the same requests are the same instructions every time.
//
// Must be idle when it is destroyed, before its loop.
class NullDisk final : public Disk, private CompletionSource {
 public:
  static constexpr uint64_t kMaxBytes = uint64_t{4} << 30;  // of offsets with metadata

  explicit NullDisk(Loop& loop);
  ~NullDisk() override;

  // Turns of the loop in which requests completed: what would be sleeps.
  uint64_t turns() const { return turns_; }

 private:
  // Disk:
  void Start(Request& request) override { queued_.push_back(&request); }
  void StartChain(Chain& chain) override;
  // CompletionSource:
  void Submit() override {}
  void Reap() override;
  size_t outstanding() const override { return queued_.size(); }
  void Wait() override {}

  void Perform(const Request& request);

  uint64_t turns_ = 0;
  std::byte* const metadata_;  // at its place on the disk
  std::vector<Request*> queued_;
  std::vector<Request*> completing_;  // kept for its capacity
};

}  // namespace ringcow

#endif  // RINGCOW_BENCH_NULL_DISK_H_
