#include "engine/testing/crash_point.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "engine/invariant.h"

namespace ringcow {
namespace {

constexpr uint64_t kEndless = std::numeric_limits<uint64_t>::max();
constexpr size_t kNever = std::numeric_limits<size_t>::max();

}  // namespace

PendingChange::PendingChange(std::shared_ptr<const TracedRequest> request)
    : request_(std::move(request)) {
  const Range range{request_->offset.value(), request_->end().value()};
  switch (request_->op) {
    case Op::kWrite:
    case Op::kWriteZeroes:
      ranges_ = {range};
      grows_to_ = range.end;
      break;
    case Op::kPunch:
      ranges_ = {range};
      break;
    case Op::kAllocate:
      grows_to_ = range.end;
      break;
    case Op::kTruncate:
      ranges_ = {{range.begin, kEndless}};
      sets_size_ = range.begin;
      break;
    case Op::kRead:
    case Op::kFdatasync:
      RINGCOW_INVARIANT(false, "reads and fsyncs change nothing");
  }
}

uint64_t PendingChange::sectors() const {
  if (sets_size_.has_value() || ranges_.empty()) return 0;
  return (ranges_.back().end - 1) / kSectorBytes - request_->offset.value() / kSectorBytes + 1;
}

void PendingChange::ApplyTo(DiskImage& image) const {
  ChangeSize(image);
  for (const Range& range : ranges_) Change(image, range);
}

void PendingChange::ApplyTornTo(DiskImage& image,
                                absl::FunctionRef<bool(uint64_t sector)> reached) const {
  RINGCOW_INVARIANT(sectors() > 0, "only what has sectors can be torn");
  ChangeSize(image);
  const uint64_t first_sector = request_->offset.value() / kSectorBytes;
  for (const Range& range : ranges_) {
    const uint64_t end = std::min(range.end, image.size());
    for (uint64_t begin = range.begin; begin < end;) {
      const uint64_t sector = begin / kSectorBytes;
      const uint64_t sector_end = std::min(end, (sector + 1) * kSectorBytes);
      if (reached(sector - first_sector)) Change(image, {begin, sector_end});
      begin = sector_end;
    }
  }
}

void PendingChange::ChangeSize(DiskImage& image) const {
  if (sets_size_.has_value()) {
    image.Resize(*sets_size_);
  } else if (grows_to_ > image.size()) {
    image.Resize(grows_to_);
  }
}

void PendingChange::Change(DiskImage& image, Range range) const {
  if (request_->op == Op::kWrite) {
    const std::span<const std::byte> bytes(request_->bytes);
    image.Write(range.begin,
                bytes.subspan(range.begin - request_->offset.value(), range.end - range.begin));
  } else {
    image.Zero(range.begin, range.end - range.begin);
  }
}

void PendingChange::SetApplied(std::shared_ptr<const TracedRequest> request, uint64_t bytes) {
  // Nothing can be durable on top of it yet, so that its ranges are still whole.
  request_ = std::move(request);
  applied_ = true;
  if (request_->op == Op::kWrite && bytes < request_->length) {
    grows_to_ = request_->offset.value() + bytes;
    ranges_ = {{request_->offset.value(), grows_to_}};
  }
}

void PendingChange::HideBehind(const PendingChange& later) {
  for (const Range& range : later.ranges_) Remove(range);
  if (later.sets_size_.has_value()) {
    grows_to_ = 0;
    sets_size_.reset();
  } else if (sets_size_.has_value()) {
    sets_size_ = std::max(*sets_size_, later.grows_to_);
  } else if (grows_to_ <= later.grows_to_) {
    grows_to_ = 0;
  }
}

bool PendingChange::IsHidden() const {
  return ranges_.empty() && grows_to_ == 0 && !sets_size_.has_value();
}

void PendingChange::Remove(Range hidden) {
  std::vector<Range> left;
  for (const Range& range : ranges_) {
    if (range.begin < std::min(range.end, hidden.begin)) {
      left.push_back({range.begin, std::min(range.end, hidden.begin)});
    }
    if (std::max(range.begin, hidden.end) < range.end) {
      left.push_back({std::max(range.begin, hidden.end), range.end});
    }
  }
  ranges_ = std::move(left);
}

bool CrashPoint::Advance() {
  if (position_ == trace_->size()) return false;
  const TraceEvent& event = trace_->events()[position_];
  switch (event.kind) {
    case TraceEvent::Kind::kStarted:
      Start(event);
      break;
    case TraceEvent::Kind::kApplied:
      Apply(event);
      break;
    case TraceEvent::Kind::kCompleted:
      Complete(event);
      break;
    case TraceEvent::Kind::kMark:
      break;
  }
  ++position_;
  return true;
}

void CrashPoint::AdvanceTo(size_t position) {
  RINGCOW_INVARIANT(position_ <= position && position <= trace_->size(),
                    "a crash point moves forward, within its trace");
  while (position_ < position) Advance();
}

void CrashPoint::Start(const TraceEvent& event) {
  if (event.request->op == Op::kFdatasync) {
    fsyncs_.emplace(event.request->ordinal, position_);
  } else {
    pending_.emplace_back(event.request);
  }
}

void CrashPoint::Apply(const TraceEvent& event) {
  if (event.request->op == Op::kFdatasync) return;
  const std::optional<size_t> found = Find(event.request->ordinal);
  RINGCOW_INVARIANT(found.has_value(), "what is applied has started and not completed");
  const auto at = pending_.begin() + static_cast<ptrdiff_t>(found.value_or(0));
  at->SetApplied(event.request, static_cast<uint64_t>(event.result));
  const auto first_unapplied = std::find_if(
      pending_.begin(), at, [](const PendingChange& change) { return !change.applied(); });
  std::rotate(first_unapplied, at, at + 1);
}

void CrashPoint::Complete(const TraceEvent& event) {
  const TracedRequest& request = *event.request;
  if (request.op == Op::kFdatasync) {
    const auto fsync = fsyncs_.find(request.ordinal);
    if (fsync == fsyncs_.end()) return;  // cancelled before it started
    if (event.result != -ECANCELED) CompleteFsync(fsync->second, event.result >= 0);
    fsyncs_.erase(fsync);
    return;
  }
  const std::optional<size_t> found = Find(request.ordinal);
  if (!found.has_value()) return;  // cancelled before it started
  const bool has_no_room = event.result == -ENOSPC || event.result == -EFBIG;
  if (request.dsync && event.result < 0 && !has_no_room && event.result != -ECANCELED) {
    PutPendingInDoubt();
  }
  PendingChange& change = pending_[*found];
  if (!change.applied()) {
    pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(*found));
    return;
  }
  change.completed_at_ = position_;
  if (request.dsync && event.result > 0) {
    std::vector<bool> covered(pending_.size());
    covered[*found] = true;
    MakeDurable(covered);
  }
}

void CrashPoint::CompleteFsync(size_t started_at, bool succeeded) {
  if (!succeeded) {
    PutPendingInDoubt();
    return;
  }
  std::vector<bool> covered(pending_.size());
  for (size_t i = 0; i < pending_.size(); ++i) {
    const PendingChange& change = pending_[i];
    covered[i] = !change.doubtful_ && change.completed_at_.value_or(kNever) < started_at;
  }
  MakeDurable(covered);
}

void CrashPoint::PutPendingInDoubt() {
  for (PendingChange& change : pending_) change.doubtful_ |= change.applied();
}

void CrashPoint::MakeDurable(const std::vector<bool>& covered) {
  std::vector<PendingChange> left;
  for (size_t i = 0; i < pending_.size(); ++i) {
    if (!covered[i]) {
      left.push_back(std::move(pending_[i]));
      continue;
    }
    pending_[i].ApplyTo(durable_);
    for (PendingChange& earlier : left) earlier.HideBehind(pending_[i]);
  }
  std::erase_if(left, [](const PendingChange& change) { return change.IsHidden(); });
  pending_ = std::move(left);
}

std::optional<size_t> CrashPoint::Find(uint64_t ordinal) const {
  for (size_t i = pending_.size(); i-- > 0;) {
    if (pending_[i].request().ordinal == ordinal) return i;
  }
  return std::nullopt;
}

}  // namespace ringcow
