#include "engine/testing/sim_disk.h"

#include <algorithm>
#include <cerrno>

#include "engine/invariant.h"

namespace ringcow {
namespace {

bool Changes(Op op) { return op != Op::kRead && op != Op::kFdatasync; }

std::vector<std::byte> Gather(const Request& request) {
  std::vector<std::byte> bytes;
  bytes.reserve(request.length);
  for (const iovec& vector : request.memory()) {
    const auto* begin = static_cast<const std::byte*>(vector.iov_base);
    bytes.insert(bytes.end(), begin, begin + vector.iov_len);
  }
  return bytes;
}

}  // namespace

SimDisk::SimDisk(Loop& loop, const Options& options, DiskImage content)
    : Disk(loop, {.name = options.name,
                  .size = content.size(),
                  .alignment = options.alignment,
                  .memory_alignment = options.memory_alignment,
                  .max_chain = options.max_chain}),
      options_(options),
      initial_(content),
      content_(std::move(content)),
      random_(options.seed) {
  RINGCOW_INVARIANT(options.latency > 0, "what takes no time overlaps with nothing");
  loop.AddSource(*this);
}

SimDisk::~SimDisk() { loop().RemoveSource(*this); }

void SimDisk::SetSizeLimit(uint64_t bytes, int error) {
  RINGCOW_INVARIANT(bytes % alignment() == 0, "a limit within a block would split it");
  size_limit_ = bytes;
  size_limit_error_ = error;
}

void SimDisk::Mark(std::string label, uint64_t id) {
  if (options_.record) trace_.Mark(std::move(label), id);
}

void SimDisk::Start(Request& request) {
  Enqueue({Accept(request)}, request.lane, /*drained=*/false);
}

void SimDisk::StartChain(Chain& chain) {
  std::vector<Job> linked;
  bool unlinks = options_.flaws.unlinks_first_stage;
  for (Request& member : chain.members()) {
    unlinks &= member.op != Op::kFdatasync;
    if (unlinks) {
      Enqueue({Accept(member)}, chain.lane(), /*drained=*/false);
    } else {
      linked.push_back(Accept(member));
    }
  }
  if (!linked.empty()) Enqueue(std::move(linked), chain.lane(), chain.drained());
}

void SimDisk::Enqueue(std::vector<Job> jobs, Lane lane, bool drained) {
  auto unit = std::make_shared<Unit>();
  unit->jobs = std::move(jobs);
  unit->lane = lane;
  unit->drained = drained && !options_.flaws.ignores_drains;
  this->lane(lane).waiting.push_back(std::move(unit));
}

SimDisk::Job SimDisk::Accept(Request& request) {
  const uint64_t ordinal = next_ordinal_++;
  ++outstanding_;
  return {.request = &request,
          .ordinal = ordinal,
          .fault = faults_ ? faults_(request, ordinal) : Fault::None()};
}

void SimDisk::Submit() {
  for (LaneState& lane : lanes_) StartWaiting(lane);
}

void SimDisk::Reap() {
  ++now_;
  while (!events_.empty() && events_.top().turn <= now_) {
    const Event event = events_.top();
    events_.pop();
    if (event.completes) {
      CompleteCurrent(event.unit);
    } else {
      ApplyCurrent(event.unit);
    }
  }
}

void SimDisk::Wait() {
  Submit();  // what a completion restarted
  RINGCOW_INVARIANT(!events_.empty(), "a lane waits for something that is not under way");
  now_ = std::max(now_, events_.top().turn - 1);
}

void SimDisk::StartWaiting(LaneState& lane) {
  while (!lane.waiting.empty() && !lane.draining) {
    if (lane.waiting.front()->drained && lane.running > 0) return;
    const std::shared_ptr<Unit> unit = std::move(lane.waiting.front());
    lane.waiting.pop_front();
    ++lane.running;
    lane.draining = unit->drained;
    StartCurrent(unit);
  }
}

void SimDisk::StartCurrent(const std::shared_ptr<Unit>& unit) {
  RecordStart(unit->jobs[unit->current]);
  Schedule(unit, /*completes=*/false);
}

void SimDisk::Schedule(const std::shared_ptr<Unit>& unit, bool completes) {
  // An effect is at least a turn after the start, so that what is submitted together overlaps.
  uint64_t delay = completes ? random_() % (options_.latency + 1)  //
                             : 1 + random_() % options_.latency;
  // Others then do all of a flush meanwhile.
  if (options_.stragglers > 0 && random_() % options_.stragglers == 0) delay *= 20;
  events_.push({.turn = now_ + delay,
                .order = random_(),
                .sequence = next_sequence_++,
                .completes = completes,
                .unit = unit});
}

void SimDisk::ApplyCurrent(const std::shared_ptr<Unit>& unit) {
  Job& job = unit->jobs[unit->current];
  Request& request = *job.request;
  const uint64_t whole = request.is_transfer() ? request.length : 1;
  const uint64_t wanted = std::min(job.fault.applied, whole);

  int64_t applied = Check(request, wanted);
  if (applied > 0) Perform(request, static_cast<uint64_t>(applied));
  if (applied > 0 && Changes(request.op)) RecordApplied(job, static_cast<uint64_t>(applied));

  job.result = request.is_transfer() ? applied : std::min<int64_t>(applied, 0);
  if (job.fault.error != 0) job.result = -job.fault.error;
  if (job.fault.is_hidden && request.is_transfer()) job.result = static_cast<int64_t>(whole);
  Schedule(unit, /*completes=*/true);
}

void SimDisk::CompleteCurrent(const std::shared_ptr<Unit>& unit) {
  const Job& job = unit->jobs[unit->current++];
  const bool whole =
      !job.request->is_transfer() || job.result == static_cast<int64_t>(job.request->length);
  RecordCompleted(job);
  --outstanding_;

  const bool goes_on = (job.result >= 0 && whole) || options_.flaws.ignores_errors;
  if (goes_on && unit->current < unit->jobs.size()) {
    StartCurrent(unit);
    Finish(*job.request, job.result);
    return;
  }
  Finish(*job.request, job.result);
  for (; unit->current < unit->jobs.size(); ++unit->current) Cancel(unit->jobs[unit->current]);
  LaneState& state = lane(unit->lane);
  --state.running;
  if (unit->drained) state.draining = false;
  StartWaiting(state);
}

void SimDisk::Cancel(Job& job) {
  job.result = -ECANCELED;
  Describe(job);
  RecordCompleted(job);
  --outstanding_;
  Finish(*job.request, job.result);
}

int64_t SimDisk::Check(const Request& request, uint64_t length) const {
  if (unsupported_.contains(request.op)) return -EOPNOTSUPP;
  const uint64_t begin = request.offset.value();
  const bool ranged = request.op != Op::kTruncate && request.op != Op::kFdatasync;
  if (ranged && !request.is_transfer() && request.length == 0) return -EINVAL;
  switch (request.op) {
    case Op::kRead:
      if (begin >= content_.size()) return 0;
      return static_cast<int64_t>(std::min(length, content_.size() - begin));
    case Op::kWrite:
      if (length > 0 && begin >= size_limit_) return -size_limit_error_;
      return static_cast<int64_t>(std::min(length, size_limit_ - std::min(begin, size_limit_)));
    case Op::kWriteZeroes:
    case Op::kAllocate:
    case Op::kTruncate:
      if (request.end().value() > std::max(size_limit_, content_.size())) return -size_limit_error_;
      return static_cast<int64_t>(length);
    case Op::kPunch:
    case Op::kFdatasync:
      return static_cast<int64_t>(length);
  }
  return -EINVAL;
}

void SimDisk::Perform(const Request& request, uint64_t length) {
  const uint64_t begin = request.offset.value();
  switch (request.op) {
    case Op::kRead:
      ReadInto(request, length);
      break;
    case Op::kWrite:
      WriteFrom(request, length);
      break;
    case Op::kWriteZeroes:
      content_.Resize(std::max(content_.size(), request.end().value()));
      content_.Zero(begin, request.length);
      break;
    case Op::kPunch:
      content_.Zero(begin, request.length);
      break;
    case Op::kAllocate:
      content_.Resize(std::max(content_.size(), request.end().value()));
      break;
    case Op::kTruncate:
      content_.Resize(begin);
      break;
    case Op::kFdatasync:
      break;
  }
}

void SimDisk::ReadInto(const Request& request, uint64_t length) const {
  uint64_t offset = request.offset.value();
  for (const iovec& vector : request.memory()) {
    const uint64_t part = std::min<uint64_t>(length, vector.iov_len);
    content_.Read(offset, {static_cast<std::byte*>(vector.iov_base), part});
    offset += part;
    length -= part;
  }
}

void SimDisk::WriteFrom(const Request& request, uint64_t length) {
  uint64_t offset = request.offset.value();
  for (const iovec& vector : request.memory()) {
    const uint64_t part = std::min<uint64_t>(length, vector.iov_len);
    content_.Write(offset, {static_cast<const std::byte*>(vector.iov_base), part});
    offset += part;
    length -= part;
  }
}

void SimDisk::Describe(Job& job) const {
  const Request& request = *job.request;
  if (!options_.record || request.op == Op::kRead) return;
  auto traced = std::make_shared<TracedRequest>();
  traced->ordinal = job.ordinal;
  traced->op = request.op;
  traced->content = request.content;
  traced->dsync = request.dsync;
  traced->offset = request.offset;
  traced->length = request.length;
  if (request.op == Op::kWrite) traced->bytes = Gather(request);
  job.traced = std::move(traced);
}

void SimDisk::RecordStart(Job& job) {
  Describe(job);
  if (job.traced != nullptr) trace_.Add(TraceEvent::Kind::kStarted, job.traced);
}

void SimDisk::RecordApplied(Job& job, uint64_t bytes) {
  if (job.traced == nullptr) return;
  const std::shared_ptr<const TracedRequest> at_start = job.traced;
  if (job.request->op == Op::kWrite) {
    Describe(job);
    if (job.traced->bytes == at_start->bytes) {
      job.traced = at_start;
    } else {
      ++changed_under_way_;
    }
  }
  trace_.Add(TraceEvent::Kind::kApplied, job.traced, static_cast<int64_t>(bytes));
}

void SimDisk::RecordCompleted(const Job& job) {
  if (job.traced == nullptr) return;
  trace_.Add(TraceEvent::Kind::kCompleted, job.traced, job.result);
}

}  // namespace ringcow
