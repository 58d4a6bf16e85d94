#ifndef RINGCOW_TESTS_SUPPORT_STAMPED_GUEST_H_
#define RINGCOW_TESTS_SUPPORT_STAMPED_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/loop.h"
#include "engine/task.h"
#include "engine/testing/disk_trace.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// A guest that remembers what it asked of its disk, what it was told, and when, so that what is
// read later can be judged: by itself, or by somebody else after a power cut.
//
// It changes whole units (sectors of 512 bytes, or parts of them), each filled with the number of
// the write and of the unit: a unit tells which write it is from. Requests for one unit must not
// overlap in time. Units that were never written read as zeroes, or as what was inherited.
class StampedGuest {
 public:
  // What units read as after a request for them.
  enum class Shows : uint8_t {
    kStamp,             // the request's own bytes (Write)
    kZeroes,            // a zero write
    kZeroesOrAsBefore,  // a discard
    kAsInTheBeginning,  // all is given up: what was inherited, or zeroes
    kAsOnce,            // they become again what they were (Return)
  };

  // Time is measured by `trace`, of the disk below. A unit's bytes divide 512 and are at least 8.
  // The first `inherited` units come from a backing file, which holds InheritedWord in them.
  StampedGuest(const DiskTrace& trace, uint64_t units, uint64_t unit_bytes = 512,
               uint64_t inherited = 0)
      : trace_(trace), unit_bytes_(unit_bytes), inherited_(inherited), changes_of_(units) {}

  static uint64_t InheritedWord(uint64_t unit) { return (uint64_t{0xba} << 56) | unit; }

  Task<absl::Status> Write(GuestDisk& disk, uint64_t unit, uint64_t count);
  // Whole clusters, none of which is allocated.
  Task<absl::Status> WriteCompressed(GuestDisk& disk, uint64_t unit, uint64_t count);
  // Awaits `request`, not begun yet, after which the units read as `shows` (not kStamp) says.
  Task<absl::Status> Change(Shows shows, uint64_t unit, uint64_t count, Task<absl::Status> request);
  // Awaits `request`, not begun yet, after which all units read as they did when changes() was
  // `once`, with no request under way then.
  Task<absl::Status> Return(uint64_t once, Task<absl::Status> request);
  // Those that have begun.
  uint64_t changes() const { return changes_.size(); }
  // Fails as the disk does; what is wrong with the bytes is in misread().
  Task<absl::Status> Read(GuestDisk& disk, uint64_t unit, uint64_t count);
  Task<absl::Status> Flush(GuestDisk& disk);
  // Ends in a flush.
  Task<absl::Status> Close(GuestDisk& disk);

  // Reads all of the disk and says what is wrong with the first unit that is; empty when nothing
  // is. CheckLive: each unit holds its last acknowledged write, or a later one that failed.
  // CheckAfterCrash: each holds what was flushed when the trace was `position` events long, or what
  // was written to it later, as far as that had begun.
  std::string CheckLive(Loop& loop, GuestDisk& disk) const;
  std::string CheckAfterCrash(Loop& loop, GuestDisk& disk, size_t position) const;
  // The same for bytes that have been read: all of the disk.
  std::string CheckAfterCrash(std::span<const std::byte> bytes, size_t position) const;

  // Grows with what has been promised by flushes when the trace was `position` events long: changes
  // whose acknowledgement has a smaller number.
  size_t FlushedBefore(size_t position) const;

  // Counts a failure of something that the guest sees nothing of, and passes it on.
  absl::Status Tell(absl::Status status) {
    if (!status.ok()) ++failed_;
    return status;
  }

  size_t failed() const { return failed_; }
  // What was wrong with the first Read that was not as expected; empty when all were.
  const std::string& misread() const { return misread_; }
  size_t flushes() const { return flushes_.size(); }
  uint64_t units() const { return changes_of_.size(); }
  uint64_t unit_bytes() const { return unit_bytes_; }
  uint64_t disk_bytes() const { return units() * unit_bytes_; }

 private:
  using Stamp = uint64_t;
  static constexpr size_t kNever = std::numeric_limits<size_t>::max();

  struct PastChange {
    Shows shows = Shows::kStamp;
    size_t started_at = 0;   // events in the trace
    size_t number = kNever;  // of its acknowledgement, among acknowledgements and flushes
    Stamp once = 0;          // kAsOnce: as after this change
  };
  struct PastFlush {
    size_t number = 0;        // of its call
    size_t completed_at = 0;  // events in the trace
  };

  // What the guest may find: what was acknowledged before, and what came later, as far as it had
  // begun when the trace was so long.
  struct Expectation {
    size_t acknowledged_before = kNever;
    size_t position = kNever;
  };

  void Fill(Stamp stamp, uint64_t unit, std::span<std::byte> bytes) const;
  Stamp Begin(Shows shows, uint64_t unit, uint64_t count);
  void End(Stamp stamp, const absl::Status& status);
  void Remember(size_t number, const absl::Status& status);
  uint64_t OriginalWord(uint64_t unit) const { return unit < inherited_ ? InheritedWord(unit) : 0; }
  uint64_t WordOf(Stamp stamp, uint64_t unit) const;
  // Whether a unit that is as expected after the changes up to `newest` may hold `word`.
  bool MayHold(uint64_t unit, uint64_t word, Stamp newest, Expectation expectation) const;
  std::string Check(std::span<const std::byte> bytes, uint64_t first_unit,
                    Expectation expectation) const;
  std::string CheckUnit(uint64_t unit, const std::byte* found, Expectation expectation) const;

  const DiskTrace& trace_;
  const uint64_t unit_bytes_;
  const uint64_t inherited_;
  std::vector<PastChange> changes_;             // the stamp is the index + 1
  std::vector<std::vector<Stamp>> changes_of_;  // by unit, in order
  std::vector<PastFlush> flushes_;              // that succeeded
  size_t clock_ = 0;
  size_t failed_ = 0;
  std::string misread_;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_STAMPED_GUEST_H_
