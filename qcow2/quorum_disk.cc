#include "qcow2/quorum_disk.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/scope.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

// Bytes that are voted on at a time.
constexpr uint64_t kAtOnce = uint64_t{1} << 20;

// Puts `bytes` behind the first `skip` bytes of `memory`.
void Scatter(std::span<const std::byte> bytes, uint64_t skip, std::span<const iovec> memory) {
  for (const iovec& vector : memory) {
    const uint64_t skipped = std::min<uint64_t>(skip, vector.iov_len);
    const uint64_t now = std::min<uint64_t>(bytes.size(), vector.iov_len - skipped);
    if (now > 0) {
      std::memcpy(static_cast<std::byte*>(vector.iov_base) + skipped, bytes.data(), now);
    }
    skip -= skipped;
    bytes = bytes.subspan(now);
  }
}

absl::Status TakeOnly(ImageDescription& options, const std::string& flag) {
  ASSIGN_OR_RETURN(const std::optional<bool> value, options.TakeFlag(flag));
  if (!value.value_or(false)) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrFormat("The option '%s=on' is not supported yet", flag));
}

}  // namespace

absl::StatusOr<size_t> TakeVoteThreshold(ImageDescription& options, size_t children) {
  uint64_t threshold = 0;
  const std::optional<std::string> value = options.Take("vote-threshold");
  if (value.has_value() && !absl::SimpleAtoi(*value, &threshold)) {
    return absl::InvalidArgumentError("Parameter 'vote-threshold' expects a number");
  }
  if (children == 0) {
    return absl::InvalidArgumentError("Number of provided children must be 1 or more");
  }
  if (threshold == 0) {
    return absl::InvalidArgumentError("Parameter 'vote-threshold' expects a value >= 1");
  }
  if (threshold > children) {
    return absl::InvalidArgumentError("threshold may not exceed children count");
  }
  RETURN_IF_ERROR(TakeOnly(options, "blkverify"));
  RETURN_IF_ERROR(TakeOnly(options, "rewrite-corrupted"));
  const std::string pattern = options.Take("read-pattern").value_or("quorum");
  if (pattern == "quorum") return threshold;
  if (pattern != "fifo") {
    return absl::InvalidArgumentError("Please set read-pattern as fifo or quorum");
  }
  return absl::UnimplementedError("The option 'read-pattern=fifo' is not supported yet");
}

absl::StatusOr<std::unique_ptr<QuorumDisk>> QuorumDisk::Open(std::vector<Disk*> children,
                                                             size_t threshold) {
  Properties properties{
      .name = "quorum", .size = children[0]->size(), .alignment = 1, .memory_alignment = 1};
  for (const Disk* const child : children) {
    properties.alignment = std::max(properties.alignment, child->alignment());
    if (child->size() != properties.size) {
      return ErrnoStatus(EIO, "Could not refresh total sector count");
    }
  }
  return absl::WrapUnique(new QuorumDisk(std::move(children), threshold, properties));
}

QuorumDisk::QuorumDisk(std::vector<Disk*> children, size_t threshold, const Properties& properties)
    : StackedDisk(children[0]->loop(), properties),
      children_(std::move(children)),
      threshold_(threshold) {}

Task<int64_t> QuorumDisk::ResultOf(Request& request) {
  return request.op == Op::kRead ? Read(request) : Change(request);
}

Task<int64_t> QuorumDisk::Read(const Request& request) {
  for (uint64_t done = 0; done < request.length; done += kAtOnce) {
    const uint64_t bytes = std::min(kAtOnce, request.length - done);
    Ballot ballot{.offset = request.offset + done,
                  .content = request.content,
                  .votes = {},
                  .is_valid = std::vector<bool>(children_.size())};
    Scope votes(loop());
    for (size_t i = 0; i < children_.size(); ++i) ballot.votes.emplace_back(bytes);
    for (size_t i = 0; i < children_.size(); ++i) votes.Spawn(CastVote(i, ballot));
    const absl::Status failed = co_await votes.Join();
    const absl::StatusOr<std::span<const std::byte>> winner = Winner(ballot);
    if (!winner.ok()) co_return -ErrnoOf(failed.ok() ? winner.status() : failed);
    Scatter(*winner, done, request.memory());
  }
  co_return static_cast<int64_t>(request.length);
}

Task<absl::Status> QuorumDisk::CastVote(size_t child, Ballot& ballot) {
  absl::Status status =
      co_await children_[child]->Read(ballot.offset, ballot.votes[child].span(), ballot.content);
  ballot.is_valid[child] = status.ok();
  co_return status;
}

absl::StatusOr<std::span<const std::byte>> QuorumDisk::Winner(const Ballot& ballot) const {
  for (size_t i = 0; i < children_.size(); ++i) {
    if (!ballot.is_valid[i]) continue;
    size_t votes = 0;
    for (size_t j = 0; j < children_.size(); ++j) {
      const bool agrees =
          ballot.is_valid[j] && std::ranges::equal(ballot.votes[i].span(), ballot.votes[j].span());
      if (agrees && ++votes == threshold_) return ballot.votes[i].span();
    }
  }
  return ErrnoStatus(EIO, "vote");
}

Task<int64_t> QuorumDisk::Change(const Request& request) {
  Scope changes(loop());
  for (Disk* const child : children_) changes.Spawn(ForwardChange(*child, request));
  const absl::Status status = co_await changes.Join();
  if (status.ok()) co_return static_cast<int64_t>(request.length);
  FollowSize(LongestChild());
  co_return -ErrnoOf(status);
}

// A request that failed on some may have made others longer.
uint64_t QuorumDisk::LongestChild() const {
  uint64_t longest = 0;
  for (const Disk* const child : children_) longest = std::max(longest, child->size());
  return longest;
}

}  // namespace ringcow
