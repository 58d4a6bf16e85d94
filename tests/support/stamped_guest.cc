#include "tests/support/stamped_guest.h"

#include <algorithm>
#include <cstring>
#include <ranges>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"

namespace ringcow {
namespace {

constexpr uint64_t kUnitBits = 24;

Task<absl::Status> ReadAll(GuestDisk& disk, std::span<std::byte> into) {
  co_return co_await disk.Read(GuestOffset(0), into);
}

}  // namespace

uint64_t StampedGuest::WordOf(Stamp stamp, uint64_t unit) const {
  switch (changes_[stamp - 1].shows) {
    case Shows::kStamp:
      return (stamp << kUnitBits) | unit;
    case Shows::kAsInTheBeginning:
      return OriginalWord(unit);
    case Shows::kZeroes:
    case Shows::kZeroesOrAsBefore:
    case Shows::kAsOnce:
      break;
  }
  return 0;
}

StampedGuest::Stamp StampedGuest::Begin(Shows shows, uint64_t unit, uint64_t count) {
  changes_.push_back({.shows = shows, .started_at = trace_.size()});
  const Stamp stamp = changes_.size();
  for (uint64_t i = 0; i < count; ++i) changes_of_[unit + i].push_back(stamp);
  return stamp;
}

void StampedGuest::End(Stamp stamp, const absl::Status& status) {
  if (!status.ok()) {
    ++failed_;
  } else if (changes_[stamp - 1].shows != Shows::kZeroesOrAsBefore) {
    // A discard replaces nothing: it only adds to what may be found.
    changes_[stamp - 1].number = clock_++;
  }
}

Task<absl::Status> StampedGuest::Write(GuestDisk& disk, uint64_t unit, uint64_t count) {
  const Stamp stamp = Begin(Shows::kStamp, unit, count);
  const AlignedBuffer buffer(count * unit_bytes_);
  Fill(stamp, unit, buffer.span());
  absl::Status status = co_await disk.Write(GuestOffset(unit * unit_bytes_), buffer.span());
  End(stamp, status);
  co_return status;
}

Task<absl::Status> StampedGuest::WriteCompressed(GuestDisk& disk, uint64_t unit, uint64_t count) {
  const Stamp stamp = Begin(Shows::kStamp, unit, count);
  const AlignedBuffer buffer(count * unit_bytes_);
  Fill(stamp, unit, buffer.span());
  absl::Status status =
      co_await disk.WriteCompressed(GuestOffset(unit * unit_bytes_), buffer.span());
  End(stamp, status);
  co_return status;
}

void StampedGuest::Fill(Stamp stamp, uint64_t unit, std::span<std::byte> bytes) const {
  const uint64_t words_in_unit = unit_bytes_ / sizeof(uint64_t);
  for (uint64_t i = 0; i < bytes.size() / sizeof(uint64_t); ++i) {
    const uint64_t word = WordOf(stamp, unit + i / words_in_unit);
    std::memcpy(bytes.data() + i * sizeof(word), &word, sizeof(word));
  }
}

Task<absl::Status> StampedGuest::Change(Shows shows, uint64_t unit, uint64_t count,
                                        Task<absl::Status> request) {
  const Stamp stamp = Begin(shows, unit, count);
  absl::Status status = co_await std::move(request);
  End(stamp, status);
  co_return status;
}

Task<absl::Status> StampedGuest::Return(uint64_t once, Task<absl::Status> request) {
  const Stamp stamp = Begin(Shows::kAsOnce, 0, units());
  changes_[stamp - 1].once = once;
  absl::Status status = co_await std::move(request);
  End(stamp, status);
  co_return status;
}

Task<absl::Status> StampedGuest::Read(GuestDisk& disk, uint64_t unit, uint64_t count) {
  const AlignedBuffer buffer(count * unit_bytes_);
  absl::Status status = co_await disk.Read(GuestOffset(unit * unit_bytes_), buffer.span());
  if (!status.ok()) {
    ++failed_;
    co_return status;
  }
  const std::string wrong = Check(buffer.span(), unit, Expectation());
  if (misread_.empty()) misread_ = wrong;
  co_return absl::OkStatus();
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
  const AlignedBuffer bytes(disk_bytes());
  const absl::Status read = loop.Run(ReadAll(disk, bytes.span()));
  if (!read.ok()) return absl::StrCat("cannot be read: ", read.ToString());
  return Check(bytes.span(), 0, Expectation());
}

std::string StampedGuest::CheckAfterCrash(Loop& loop, GuestDisk& disk, size_t position) const {
  const AlignedBuffer bytes(disk_bytes());
  const absl::Status read = loop.Run(ReadAll(disk, bytes.span()));
  if (!read.ok()) return absl::StrCat("cannot be read: ", read.ToString());
  return CheckAfterCrash(bytes.span(), position);
}

std::string StampedGuest::CheckAfterCrash(std::span<const std::byte> bytes, size_t position) const {
  return Check(bytes, 0, {FlushedBefore(position), position});
}

std::string StampedGuest::Check(std::span<const std::byte> bytes, uint64_t first_unit,
                                Expectation expectation) const {
  for (uint64_t i = 0; i < bytes.size() / unit_bytes_; ++i) {
    std::string wrong = CheckUnit(first_unit + i, bytes.data() + i * unit_bytes_, expectation);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

std::string StampedGuest::CheckUnit(uint64_t unit, const std::byte* found,
                                    Expectation expectation) const {
  uint64_t first = 0;
  std::memcpy(&first, found, sizeof(first));
  if (std::memcmp(found, found + sizeof(first), unit_bytes_ - sizeof(first)) != 0) {
    return absl::StrFormat("unit %d is made of pieces", unit);
  }
  if (MayHold(unit, first, changes_.size(), expectation)) return "";
  for (const Stamp stamp : std::views::reverse(changes_of_[unit])) {
    const PastChange& change = changes_[stamp - 1];
    if (change.number >= expectation.acknowledged_before) continue;
    if (change.shows == Shows::kAsOnce) {
      return absl::StrFormat(
          "unit %d holds %#x, not what it was after change %d, or anything newer", unit, first,
          change.once);
    }
    return absl::StrFormat("unit %d holds %#x, not %#x of change %d or anything newer", unit, first,
                           WordOf(stamp, unit), stamp);
  }
  return absl::StrFormat("unit %d holds %#x, not %#x as in the beginning", unit, first,
                         OriginalWord(unit));
}

// From the newest back to the one that must be there at least.
bool StampedGuest::MayHold(uint64_t unit, uint64_t word, Stamp newest,
                           Expectation expectation) const {
  for (const Stamp stamp : std::views::reverse(changes_of_[unit])) {
    const PastChange& change = changes_[stamp - 1];
    if (stamp > newest) continue;
    const bool is_shown = change.shows == Shows::kAsOnce
                              ? MayHold(unit, word, change.once, Expectation())
                              : word == WordOf(stamp, unit);
    if (change.started_at <= expectation.position && is_shown) return true;
    if (change.number < expectation.acknowledged_before) return false;
  }
  return word == OriginalWord(unit);
}

}  // namespace ringcow
