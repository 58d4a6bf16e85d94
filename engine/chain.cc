#include "engine/chain.h"

#include <cerrno>

#include "engine/disk.h"

namespace ringcow {

Chain& Chain::Write(HostOffset offset, std::span<const std::byte> bytes, Content content) {
  Request& request = members_.emplace_back();
  request.op = Op::kWrite;
  request.content = content;
  request.offset = offset;
  request.length = bytes.size();
  // A write does not change what an iovec points to.
  request.single = {const_cast<std::byte*>(bytes.data()), bytes.size()};
  return *this;
}

Chain& Chain::Fdatasync() {
  members_.emplace_back().op = Op::kFdatasync;
  return *this;
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
  return first == nullptr ? absl::OkStatus() : disk_.StatusOf(*first);
}

}  // namespace ringcow
