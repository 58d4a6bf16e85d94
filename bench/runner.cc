#include "bench/runner.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "bench/heap_allocations.h"
#include "engine/aligned_buffer.h"
#include "engine/scope.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kFillByte = 0xa5;

class Run {
 public:
  Run(Loop& loop, GuestDisk& disk, std::span<const GuestOp> ops, const RunOptions& options)
      : loop_(loop), disk_(disk), ops_(ops), options_(options) {
    uint32_t largest = 0;
    for (const GuestOp& op : ops) largest = std::max(largest, op.length);
    const size_t distance = AlignUp(largest, kBufferAlignment);
    memory_ = AlignedBuffer(options.depth * distance);
    if (largest > 0) std::memset(memory_.data(), kFillByte, memory_.size());
    for (uint32_t i = 0; i < options.depth; ++i) {
      buffers_.push_back(memory_.span().subspan(i * distance, largest));
    }
    is_registered_ = largest > 0 && options.rings != nullptr &&
                     options.rings->RegisterMemory(memory_.span()).ok();
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    if (is_registered_) options_.rings->UnregisterMemory(memory_.span());
  }

  Task<absl::StatusOr<RunResult>> Go() {
    const uint64_t allocations = HeapAllocations();
    allocations_at_half_ = allocations;  // where time runs out before
    const Clock::time_point start = Clock::now();
    deadline_ = start + options_.time_limit;
    while (next_ < ops_.size() && !stopped_) {
      const bool drains = options_.flush_every > 1;
      const size_t end = drains ? std::min(ops_.size(), next_ + options_.flush_every) : ops_.size();
      CO_RETURN_IF_ERROR(co_await RunUntil(end));
      if (drains) CO_RETURN_IF_ERROR(co_await Flush());
    }
    result_.elapsed = Clock::now() - start;
    const uint64_t allocations_at_end = HeapAllocations();
    result_.heap_allocations = allocations_at_end - allocations;
    result_.steady_heap_allocations = allocations_at_end - allocations_at_half_;
    co_return std::move(result_);
  }

 private:
  Task<absl::Status> RunUntil(size_t end) {
    Scope scope(loop_);
    for (const std::span<std::byte> buffer : buffers_) scope.Spawn(Work(end, buffer));
    co_return co_await scope.Join();
  }

  Task<absl::Status> Work(size_t end, std::span<std::byte> buffer) {
    Clock::time_point now = Clock::now();
    while (next_ < end && !stopped_) {
      if (next_ == ops_.size() / 2) allocations_at_half_ = HeapAllocations();
      const GuestOp& op = ops_[next_++];
      const Clock::time_point start = now;
      if (absl::Status status = co_await Perform(op, buffer.first(op.length)); !status.ok()) {
        stopped_ = true;
        co_return status;
      }
      now = Clock::now();
      if (now >= deadline_) stopped_ = true;
      if (op.kind == GuestOp::Kind::kFlush) continue;
      result_.latency.Record(now - start);
      ++result_.requests;
      result_.bytes += op.length;
    }
    co_return absl::OkStatus();
  }

  Task<absl::Status> Perform(const GuestOp& op, std::span<std::byte> buffer) {
    switch (op.kind) {
      case GuestOp::Kind::kFlush:
        co_return co_await Flush();
      case GuestOp::Kind::kRead:
        co_return co_await disk_.Read(op.offset, buffer);
      case GuestOp::Kind::kWrite:
        break;
    }
    CO_RETURN_IF_ERROR(co_await disk_.Write(op.offset, buffer));
    if (options_.flush_every == 1) co_return co_await Flush();
    co_return absl::OkStatus();
  }

  Task<absl::Status> Flush() {
    ++result_.flushes;
    co_return co_await disk_.Flush();
  }

  Loop& loop_;
  GuestDisk& disk_;
  const std::span<const GuestOp> ops_;
  const RunOptions options_;
  AlignedBuffer memory_;
  bool is_registered_ = false;
  std::vector<std::span<std::byte>> buffers_;  // of one request each
  size_t next_ = 0;
  uint64_t allocations_at_half_ = 0;
  bool stopped_ = false;
  Clock::time_point deadline_;
  RunResult result_;
};

}  // namespace

Task<absl::StatusOr<RunResult>> RunOps(Loop& loop, GuestDisk& disk, std::span<const GuestOp> ops,
                                       RunOptions options) {
  Run run(loop, disk, ops, options);
  co_return co_await run.Go();
}

}  // namespace ringcow
