#include "engine/disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/invariant.h"

namespace ringcow {
namespace {

uint64_t AlignDown(uint64_t value, uint64_t alignment) { return value & ~(alignment - 1); }
uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return AlignDown(value + alignment - 1, alignment);
}

Request MakeRequest(Op op, HostOffset offset, uint64_t length, Content content = Content::kOther) {
  Request request;
  request.op = op;
  request.content = content;
  request.offset = offset;
  request.length = length;
  return request;
}

// A write does not change what an iovec points to, but iovec has no const form.
Request MakeTransfer(Op op, HostOffset offset, std::span<const std::byte> memory, Content content) {
  Request request = MakeRequest(op, offset, memory.size(), content);
  request.single = {const_cast<std::byte*>(memory.data()), memory.size()};
  return request;
}

Request MakeTransfer(Op op, HostOffset offset, std::span<const iovec> vectors, Content content) {
  uint64_t length = 0;
  for (const iovec& vector : vectors) length += vector.iov_len;
  Request request = MakeRequest(op, offset, length, content);
  request.vectors = vectors;
  return request;
}

// The part of `memory` behind its first `skip` bytes.
std::vector<iovec> Skip(std::span<const iovec> memory, uint64_t skip) {
  std::vector<iovec> rest;
  for (const iovec& vector : memory) {
    const uint64_t skipped = std::min<uint64_t>(skip, vector.iov_len);
    skip -= skipped;
    if (skipped == vector.iov_len) continue;
    rest.push_back({static_cast<std::byte*>(vector.iov_base) + skipped, vector.iov_len - skipped});
  }
  return rest;
}

void CopyTo(std::span<const iovec> memory, const std::byte* from) {
  for (const iovec& vector : memory) {
    std::memcpy(vector.iov_base, from, vector.iov_len);
    from += vector.iov_len;
  }
}

void CopyFrom(std::span<const iovec> memory, std::byte* to) {
  for (const iovec& vector : memory) {
    std::memcpy(to, vector.iov_base, vector.iov_len);
    to += vector.iov_len;
  }
}

uint64_t EndOfChange(const Request& request) {
  return request.op == Op::kTruncate ? std::numeric_limits<uint64_t>::max() : request.end().value();
}

// What a message says of the bytes besides where they are: " (L2 table)".
std::string KindOf(Content content) {
  const bool is_table = content != Content::kData && content != Content::kOther;
  return is_table ? absl::StrFormat(" (%s)", NameOf(content)) : "";
}

absl::string_view NameOf(Op op) {
  switch (op) {
    case Op::kRead:
      return "read";
    case Op::kWrite:
      return "write";
    case Op::kFdatasync:
      return "fdatasync";
    case Op::kWriteZeroes:
      return "zeroing";
    case Op::kPunch:
      return "punching";
    case Op::kAllocate:
      return "allocation";
    case Op::kTruncate:
      return "truncation";
  }
  return "request";
}

}  // namespace

void IoAwaiter::await_suspend(std::coroutine_handle<> waiter) {
  request_.waiter = waiter;
  disk_.Submit(request_);
}

absl::Status IoAwaiter::await_resume() const {
  return request_.error == 0 ? absl::OkStatus() : disk_.StatusOf(request_);
}

Disk::Disk(Loop& loop, const Properties& properties)
    : loop_(loop),
      name_(properties.name),
      size_(properties.size),
      alignment_(properties.alignment),
      memory_alignment_(properties.memory_alignment),
      max_chain_(properties.max_chain),
      read_modify_writes_(loop),
      write_finished_(loop) {}

Disk::~Disk() = default;

IoAwaiter Disk::Read(HostOffset offset, std::span<std::byte> into, Content content) {
  return IoAwaiter(*this, MakeTransfer(Op::kRead, offset, into, content));
}

IoAwaiter Disk::Write(HostOffset offset, std::span<const std::byte> from, Content content) {
  return IoAwaiter(*this, MakeTransfer(Op::kWrite, offset, from, content));
}

IoAwaiter Disk::WriteDurably(HostOffset offset, std::span<const std::byte> from, Content content) {
  Request request = MakeTransfer(Op::kWrite, offset, from, content);
  request.dsync = true;
  return IoAwaiter(*this, request);
}

IoAwaiter Disk::ReadV(HostOffset offset, std::span<const iovec> into, Content content) {
  return IoAwaiter(*this, MakeTransfer(Op::kRead, offset, into, content));
}

IoAwaiter Disk::WriteV(HostOffset offset, std::span<const iovec> from, Content content) {
  return IoAwaiter(*this, MakeTransfer(Op::kWrite, offset, from, content));
}

IoAwaiter Disk::Fdatasync() {
  return IoAwaiter(*this, MakeRequest(Op::kFdatasync, HostOffset(0), 0));
}

IoAwaiter Disk::WriteZeroes(HostOffset offset, uint64_t length, Content content) {
  return IoAwaiter(*this, MakeRequest(Op::kWriteZeroes, offset, length, content));
}

IoAwaiter Disk::Punch(HostOffset offset, uint64_t length) {
  return IoAwaiter(*this, MakeRequest(Op::kPunch, offset, length));
}

IoAwaiter Disk::Allocate(HostOffset offset, uint64_t length) {
  return IoAwaiter(*this, MakeRequest(Op::kAllocate, offset, length));
}

IoAwaiter Disk::Truncate(uint64_t size) {
  return IoAwaiter(*this, MakeRequest(Op::kTruncate, HostOffset(size), 0));
}

DiskExtent Disk::Find(HostOffset /*offset*/, uint64_t length) const { return {.bytes = length}; }

bool Disk::IsAligned(const Request& request) const {
  if (((request.offset.value() | request.length) & (alignment_ - 1)) != 0) return false;
  for (const iovec& vector : request.memory()) {
    const auto address = reinterpret_cast<uintptr_t>(vector.iov_base);
    if ((address & (memory_alignment_ - 1)) != 0 || (vector.iov_len & (alignment_ - 1)) != 0) {
      return false;
    }
  }
  return true;
}

void Disk::Count(const Request& request) {
  switch (request.op) {
    case Op::kRead:
      ++counters_[request.content].reads;
      counters_[request.content].read_bytes += request.length;
      break;
    case Op::kWrite:
      ++counters_[request.content].writes;
      counters_[request.content].written_bytes += request.length;
      break;
    case Op::kFdatasync:
      ++counters_.fsyncs;
      break;
    case Op::kTruncate:
      ++counters_.truncates;
      break;
    default:
      ++counters_.allocations;
      break;
  }
}

void Disk::Submit(Request& request) {
  if (request.is_transfer() && !IsAligned(request)) {
    ++counters_.bounced;
    StartDetached(Bounce(request));
  } else if (OverlapsReadModifyWrite(request)) {
    StartDetached(SubmitAfterReadModifyWrites(request));
  } else {
    Begin(request);
  }
}

void Disk::Begin(Request& request) {
  if (request.changes_bytes()) LinkWrite(request);
  request.disk_size = size_;
  Count(request);
  Start(request);
}

// A read-modify-write that has read its blocks would write back their old bytes over this change.
bool Disk::OverlapsReadModifyWrite(const Request& request) const {
  return request.changes_bytes() && !request.holds_range && !read_modify_writes_.empty() &&
         read_modify_writes_.Overlaps(request.offset.value(), EndOfChange(request));
}

Task<void> Disk::SubmitAfterReadModifyWrites(Request& request) {
  RangeLock::Hold hold(read_modify_writes_, request.offset.value(), EndOfChange(request));
  co_await hold;
  Begin(request);
}

void Disk::SubmitChain(Chain& chain) {
  RINGCOW_INVARIANT(chain.size() <= max_chain_, "a chain longer than the ring would be cut");
  bool overlaps = false;
  for (const Request& member : chain.members()) {
    RINGCOW_INVARIANT(!member.is_transfer() || member.disk->IsAligned(member),
                      "a chain cannot bounce");
    overlaps |= OverlapsReadModifyWrite(member);
  }
  if (overlaps) {
    StartDetached(SubmitChainAfterReadModifyWrites(chain));
  } else {
    BeginChain(chain);
  }
}

void Disk::BeginChain(Chain& chain) {
  for (Request& member : chain.members()) {
    if (member.changes_bytes()) LinkWrite(member);
    member.disk->Count(member);
  }
  ++counters_.chains;
  if (chain.drained()) ++counters_.drains;
  StartChain(chain);
}

// One lock for all members: two chains that took theirs one by one could wait for each other.
Task<void> Disk::SubmitChainAfterReadModifyWrites(Chain& chain) {
  uint64_t begin = std::numeric_limits<uint64_t>::max();
  uint64_t end = 0;
  for (const Request& member : chain.members()) {
    if (!member.changes_bytes()) continue;
    begin = std::min(begin, member.offset.value());
    end = std::max(end, EndOfChange(member));
  }
  RangeLock::Hold hold(read_modify_writes_, begin, end);
  co_await hold;
  BeginChain(chain);
}

Task<void> Disk::Bounce(Request& request) {
  const int error = request.op == Op::kRead ? co_await BounceRead(request)  //
                                            : co_await BounceWrite(request);
  Complete(request, error);
}

Task<int> Disk::BounceRead(Request& request) {
  const HostOffset begin(AlignDown(request.offset.value(), alignment_));
  const HostOffset end(AlignUp(request.end().value(), alignment_));
  const BufferPool::Buffer blocks = buffers_.Get(end - begin);
  IoAwaiter read = Read(begin, blocks.span(), request.content);
  if (!(co_await read).ok()) co_return read.error();
  CopyTo(request.memory(), blocks.data() + (request.offset - begin));
  co_return 0;
}

Task<int> Disk::BounceWrite(Request& request) {
  const HostOffset begin(AlignDown(request.offset.value(), alignment_));
  const HostOffset end(AlignUp(request.end().value(), alignment_));
  const BufferPool::Buffer blocks = buffers_.Get(end - begin);

  RangeLock::Hold hold(read_modify_writes_, begin.value(), end.value());
  co_await hold;
  while (OverlapsWriteInFlight(begin, end)) co_await write_finished_.Wait();

  if (int error = co_await ReadPartialBlocks(request, blocks.span(), begin); error != 0) {
    co_return error;
  }
  CopyFrom(request.memory(), blocks.data() + (request.offset - begin));

  Request aligned = MakeTransfer(Op::kWrite, begin, blocks.span(), request.content);
  aligned.lane = request.lane;
  aligned.dsync = request.dsync;
  aligned.holds_range = true;
  IoAwaiter write(*this, aligned);
  (void)co_await write;  // the caller makes a status of the errno, with its own offset and length
  co_return write.error();
}

// Reads the first and the last block where `request` covers them only in part.
Task<int> Disk::ReadPartialBlocks(const Request& request, std::span<std::byte> blocks,
                                  HostOffset begin) {
  const HostOffset end = begin + blocks.size();
  const bool head = request.offset != begin;
  const bool tail = request.end() != end;
  if (head || (tail && blocks.size() == alignment_)) {
    IoAwaiter read = Read(begin, blocks.first(alignment_), request.content);
    if (!(co_await read).ok()) co_return read.error();
  }
  if (tail && blocks.size() > alignment_) {
    IoAwaiter read = Read(end - alignment_, blocks.last(alignment_), request.content);
    if (!(co_await read).ok()) co_return read.error();
  }
  co_return 0;
}

void Disk::Finish(Request& request, int64_t result) {
  if (request.op == Op::kWrite && result > 0) {
    // Also of a write that fails later on: its bytes are there, where the disk seemed to end.
    SetSize(std::max(size_, request.offset.value() + static_cast<uint64_t>(result)));
  }
  if (request.chain != nullptr) {
    FinishMember(request, result);
  } else if (result == -EINTR || result == -EAGAIN) {
    Start(request);
  } else if (result < 0) {
    Complete(request, static_cast<int>(-result));
  } else if (request.is_transfer() && static_cast<uint64_t>(result) < request.length) {
    Shorten(request, static_cast<uint64_t>(result));
  } else {
    Complete(request, 0);
  }
}

// A transfer stopped early: at the end of the disk, where a read gives zeroes, or in the middle,
// where it goes on from the last whole block; the host then tells the true error, or it succeeds.
// The end is where it was at any time during the read: the disk may have grown since.
void Disk::Shorten(Request& request, uint64_t transferred) {
  const uint64_t disk_end = std::min(request.disk_size, size_);
  if (request.op == Op::kRead && request.offset.value() + transferred >= disk_end) {
    for (const iovec& rest : Skip(request.memory(), transferred)) {
      std::memset(rest.iov_base, 0, rest.iov_len);
    }
    Complete(request, 0);
  } else if (const uint64_t whole = AlignDown(transferred, alignment_); whole > 0) {
    StartDetached(TransferRest(request, whole));
  } else {
    Complete(request, EIO);
  }
}

Task<void> Disk::TransferRest(Request& request, uint64_t from) {
  const std::vector<iovec> memory = Skip(request.memory(), from);
  Request rest = MakeTransfer(request.op, request.offset + from, memory, request.content);
  rest.lane = request.lane;
  rest.dsync = request.dsync;
  rest.holds_range = true;  // `request` counts as in flight until the rest is done
  IoAwaiter transfer(*this, rest);
  (void)co_await transfer;  // reported as `request`'s own
  Complete(request, transfer.error());
}

void Disk::SetSize(uint64_t size) {
  if (size == size_) return;
  size_ = size;
  ++size_changes_;
}

void Disk::Complete(Request& request, int error) {
  request.error = error;
  if (request.newer_write != nullptr || request.older_write != nullptr ||
      newest_write_ == &request) {
    UnlinkWrite(request);
  }
  if (request.op != Op::kRead && request.op != Op::kFdatasync) {
    // A failed write may have changed something too.
    ++changes_;
    if (error == 0 && request.op == Op::kTruncate) SetSize(request.offset.value());
    if (error == 0 && request.op != Op::kPunch) SetSize(std::max(size_, request.end().value()));
  }
  if (request.waiter) loop_.Post(std::exchange(request.waiter, {}));
}

void Disk::FinishMember(Request& member, int64_t result) {
  const bool is_short =
      result >= 0 && member.is_transfer() && static_cast<uint64_t>(result) < member.length;
  const int error = result < 0 ? static_cast<int>(-result) : (is_short ? EIO : 0);
  Complete(member, error);
  Chain& chain = *member.chain;
  if (--chain.unfinished_ == 0) loop_.Post(std::exchange(chain.waiter_, {}));
}

void Disk::LinkWrite(Request& request) {
  request.older_write = newest_write_;
  if (newest_write_ != nullptr) newest_write_->newer_write = &request;
  newest_write_ = &request;
}

void Disk::UnlinkWrite(Request& request) {
  if (request.older_write != nullptr) request.older_write->newer_write = request.newer_write;
  (request.newer_write != nullptr ? request.newer_write->older_write : newest_write_) =
      request.older_write;
  request.newer_write = request.older_write = nullptr;
  write_finished_.WakeAll();
}

bool Disk::OverlapsWriteInFlight(HostOffset begin, HostOffset end) const {
  for (const Request* write = newest_write_; write != nullptr; write = write->older_write) {
    if (write->offset < end && begin.value() < EndOfChange(*write)) return true;
  }
  return false;
}

absl::Status Disk::StatusOf(const Request& request) const {
  switch (request.op) {
    case Op::kFdatasync:
      return ErrnoStatus(request.error, absl::StrFormat("fdatasync of '%s'", name_));
    case Op::kTruncate:
      return ErrnoStatus(request.error, absl::StrFormat("truncation of '%s' to %d bytes", name_,
                                                        request.offset.value()));
    default:
      return ErrnoStatus(
          request.error,
          absl::StrFormat("%s of %d bytes at host offset %#x%s of '%s'", NameOf(request.op),
                          request.length, request.offset.value(), KindOf(request.content), name_));
  }
}

}  // namespace ringcow
