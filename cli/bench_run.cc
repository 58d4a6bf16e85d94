#include "cli/bench_run.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/program.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

absl::Status Failed(absl::string_view what, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(what, ": ", MessageOf(status)));
}

}  // namespace

BenchRun::BenchRun(Loop& loop, GuestDisk& disk, const BenchPattern& pattern)
    : loop_(loop),
      disk_(disk),
      pattern_(pattern),
      lanes_(std::min(pattern.depth, pattern.count)),
      next_offset_(pattern.offset),
      flushes_(loop) {
  RINGCOW_INVARIANT(lanes_ > 0 && pattern.size > 0, "there is something to send");
}

// Writes may share their memory, for nobody changes it. Reads get memory of their own each, as a
// guest's would.
absl::Status BenchRun::Prepare() {
  // Each lane is a coroutine, and more than this no ring carries at a time.
  constexpr uint64_t kMaxLanes = 65536;
  if (lanes_ > kMaxLanes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("A queue depth of more than ", kMaxLanes, " is not supported"));
  }
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(pattern_.write ? 1 : lanes_, pattern_.size, &bytes)) {
    return absl::ResourceExhaustedError("The requests need more memory than there can be");
  }
  ASSIGN_OR_RETURN(memory_, IoMemory::Allocate(bytes));
  std::memset(memory_.span().data(), pattern_.byte, bytes);
  return absl::OkStatus();
}

Task<absl::Status> BenchRun::Run() {
  const bool stop_for_flushes = pattern_.flush_interval > 0 && pattern_.drain;
  absl::Status status;
  while (status.ok() && done_ < pattern_.count) {
    const uint64_t left = pattern_.count - done_;
    const uint64_t now = stop_for_flushes ? std::min(left, pattern_.flush_interval) : left;
    status = co_await RunUntil(done_ + now);
    if (status.ok() && stop_for_flushes) status = co_await Flush();
  }
  status.Update(co_await flushes_.Join());
  co_return status;
}

Task<absl::Status> BenchRun::RunUntil(uint64_t end) {
  std::vector<Task<absl::Status>> lanes;
  lanes.reserve(lanes_);
  for (uint64_t lane = 0; lane < lanes_; ++lane) lanes.push_back(Lane(lane, end));
  return AllOf(loop_, std::move(lanes));
}

Task<absl::Status> BenchRun::Lane(uint64_t lane, uint64_t end) {
  while (issued_ < end && !failed_) {
    const absl::Status status = co_await Request(lane);
    if (!status.ok()) {
      failed_ = true;
      co_return Failed("Failed request", status);
    }
    ++done_;
    const bool flush_due =
        pattern_.flush_interval > 0 && !pattern_.drain && done_ % pattern_.flush_interval == 0;
    if (flush_due) flushes_.Spawn(Flush());
  }
  co_return absl::OkStatus();
}

Task<absl::Status> BenchRun::Request(uint64_t lane) {
  ++issued_;
  const GuestOffset offset(next_offset_);
  next_offset_ += pattern_.step == 0 ? pattern_.size : pattern_.step;
  next_offset_ = disk_.size() == 0 ? 0 : next_offset_ % disk_.size();
  if (pattern_.write) return disk_.Write(offset, memory_.span());
  return disk_.Read(offset, memory_.span().subspan(lane * pattern_.size, pattern_.size));
}

Task<absl::Status> BenchRun::Flush() {
  const absl::Status status = co_await disk_.Flush();
  if (!status.ok()) failed_ = true;
  co_return Failed("Failed flush request", status);
}

}  // namespace ringcow
