#include "tests/support/stamped_guest.h"

#include <algorithm>
#include <cstring>
#include <ranges>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"

namespace ringcow {
namespace {

constexpr uint64_t kWordsInSector = StampedGuest::kSector / sizeof(uint64_t);
constexpr uint64_t kSectorBits = 24;

Task<absl::Status> ReadAll(GuestDisk& disk, std::span<std::byte> into) {
  co_return co_await disk.Read(GuestOffset(0), into);
}

uint64_t WordOf(StampedGuest::Stamp stamp, uint64_t sector) {
  return stamp == 0 ? 0 : (stamp << kSectorBits) | sector;
}

}  // namespace

Task<absl::Status> StampedGuest::Write(GuestDisk& disk, uint64_t sector, uint64_t count) {
  writes_.push_back({.started_at = trace_.size()});
  const Stamp stamp = writes_.size();
  const AlignedBuffer buffer(count * kSector);
  for (uint64_t i = 0; i < count * kWordsInSector; ++i) {
    const uint64_t word = WordOf(stamp, sector + i / kWordsInSector);
    std::memcpy(buffer.data() + i * sizeof(word), &word, sizeof(word));
  }
  for (uint64_t i = 0; i < count; ++i) writes_of_[sector + i].push_back(stamp);
  absl::Status status = co_await disk.Write(GuestOffset(sector * kSector), buffer.span());
  if (status.ok()) writes_[stamp - 1].number = clock_++;
  if (!status.ok()) ++failed_;
  co_return status;
}

Task<absl::Status> StampedGuest::Flush(GuestDisk& disk) {
  const size_t number = clock_++;
  absl::Status status = co_await disk.Flush();
  Remember(number, status);
  co_return status;
}

Task<absl::Status> StampedGuest::Close(GuestDisk& disk) {
  const size_t number = clock_++;
  absl::Status status = co_await disk.Close();
  Remember(number, status);
  co_return status;
}

void StampedGuest::Remember(size_t number, const absl::Status& status) {
  if (status.ok()) flushes_.push_back({number, trace_.size()});
  if (!status.ok()) ++failed_;
}

size_t StampedGuest::FlushedBefore(size_t position) const {
  size_t before = 0;
  for (const PastFlush& flush : flushes_) {
    if (flush.completed_at <= position) before = std::max(before, flush.number);
  }
  return before;
}

std::string StampedGuest::CheckLive(Loop& loop, GuestDisk& disk) const {
  return Check(loop, disk, kNever, trace_.size());
}

std::string StampedGuest::CheckAfterCrash(Loop& loop, GuestDisk& disk, size_t position) const {
  return Check(loop, disk, FlushedBefore(position), position);
}

std::string StampedGuest::Check(Loop& loop, GuestDisk& disk, size_t acknowledged_before,
                                size_t position) const {
  const AlignedBuffer bytes(sectors() * kSector);
  const absl::Status read = loop.Run(ReadAll(disk, bytes.span()));
  if (!read.ok()) return absl::StrCat("cannot be read: ", read.ToString());
  for (uint64_t sector = 0; sector < sectors(); ++sector) {
    const std::byte* found = bytes.data() + sector * kSector;
    std::string wrong = CheckSector(sector, found, acknowledged_before, position);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

std::string StampedGuest::CheckSector(uint64_t sector, const std::byte* found,
                                      size_t acknowledged_before, size_t position) const {
  uint64_t first = 0;
  std::memcpy(&first, found, sizeof(first));
  if (std::memcmp(found, found + sizeof(first), kSector - sizeof(first)) != 0) {
    return absl::StrFormat("sector %d is made of pieces", sector);
  }
  const std::vector<Stamp>& writes = writes_of_[sector];
  // From the newest back to the one that must be there at least.
  for (const Stamp stamp : std::views::reverse(writes)) {
    const PastWrite& write = writes_[stamp - 1];
    if (write.started_at <= position && first == WordOf(stamp, sector)) return "";
    if (write.number >= acknowledged_before) continue;
    return absl::StrFormat("sector %d holds %#x, not %#x of write %d or anything newer", sector,
                           first, WordOf(stamp, sector), stamp);
  }
  return first == 0 ? "" : absl::StrFormat("sector %d holds %#x, not zeroes", sector, first);
}

}  // namespace ringcow
