#include "engine/chain.h"

#include <algorithm>
#include <cerrno>

#include "engine/disk.h"

namespace ringcow {

Request& Chain::Append(Disk& disk, Op op, HostOffset offset, Content content) {
  Request& request = members_.emplace_back();
  request.op = op;
  request.content = content;
  request.offset = offset;
  request.disk = &disk;
  return request;
}

Chain& Chain::Write(HostOffset offset, std::span<const std::byte> bytes, Content content) {
  Request& request = Append(disk_, Op::kWrite, offset, content);
  request.length = bytes.size();
  // A write does not change what an iovec points to.
  request.single = {const_cast<std::byte*>(bytes.data()), bytes.size()};
  return *this;
}

Chain& Chain::WriteV(HostOffset offset, std::span<const iovec> vectors, Content content) {
  Request& request = Append(disk_, Op::kWrite, offset, content);
  request.vectors = vectors;
  for (const iovec& vector : vectors) request.length += vector.iov_len;
  return *this;
}

Chain& Chain::Read(Disk& from, HostOffset offset, std::span<std::byte> into, Content content) {
  Request& request = Append(from, Op::kRead, offset, content);
  request.length = into.size();
  request.single = {into.data(), into.size()};
  return *this;
}

Chain& Chain::Fdatasync() {
  Append(disk_, Op::kFdatasync, HostOffset(0), Content::kOther);
  return *this;
}

bool Chain::is_possible() const {
  if (members_.size() > disk_.max_chain()) return false;
  return std::ranges::all_of(members_, [](const Request& member) {
    return !member.is_transfer() || member.disk->IsAligned(member);
  });
}

Chain& Chain::WithoutDrain() {
  drained_ = false;
  return *this;
}

Chain& Chain::OnLane(Lane lane) {
  lane_ = lane;
  return *this;
}

void Chain::Start(std::coroutine_handle<> waiter) {
  waiter_ = waiter;
  unfinished_ = members_.size();
  for (Request& member : members_) {
    member.chain = this;
    member.lane = lane_;
    member.error = 0;
  }
  disk_.SubmitChain(*this);
}

absl::Status Chain::FirstFailure() const {
  // What is cancelled was cancelled by another member's failure, which says more.
  const Request* first = nullptr;
  for (const Request& member : members_) {
    if (member.error == 0) continue;
    if (first == nullptr || first->error == ECANCELED) first = &member;
    if (first->error != ECANCELED) break;
  }
  return first == nullptr ? absl::OkStatus() : first->disk->StatusOf(*first);
}

}  // namespace ringcow
