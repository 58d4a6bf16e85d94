#ifndef RINGCOW_TESTS_SUPPORT_STAMPED_GUEST_H_
#define RINGCOW_TESTS_SUPPORT_STAMPED_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
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
// It writes whole sectors of 512 bytes, each filled with the number of the write and of the sector:
// a sector tells which write it is from. Writes of one sector must not overlap in time. Sectors
// that were never written read as zeroes.
class StampedGuest {
 public:
  static constexpr uint64_t kSector = 512;
  using Stamp = uint64_t;

  // Time is measured by `trace`, of the disk below.
  StampedGuest(const DiskTrace& trace, uint64_t sectors) : trace_(trace), writes_of_(sectors) {}

  Task<absl::Status> Write(GuestDisk& disk, uint64_t sector, uint64_t count);
  Task<absl::Status> Flush(GuestDisk& disk);
  // Ends in a flush.
  Task<absl::Status> Close(GuestDisk& disk);

  // Reads all of the disk and says what is wrong with the first sector that is; empty when nothing
  // is. CheckLive: each sector holds its last acknowledged write, or a later one that failed.
  // CheckAfterCrash: each holds what was flushed when the trace was `position` events long, or what
  // was written to it later, as far as that had begun.
  std::string CheckLive(Loop& loop, GuestDisk& disk) const;
  std::string CheckAfterCrash(Loop& loop, GuestDisk& disk, size_t position) const;

  // Grows with what has been promised by flushes when the trace was `position` events long: writes
  // whose acknowledgement has a smaller number.
  size_t FlushedBefore(size_t position) const;

  size_t failed() const { return failed_; }
  size_t flushes() const { return flushes_.size(); }
  uint64_t sectors() const { return writes_of_.size(); }

 private:
  static constexpr size_t kNever = std::numeric_limits<size_t>::max();

  struct PastWrite {
    size_t started_at = 0;   // events in the trace
    size_t number = kNever;  // of its acknowledgement, among acknowledgements and flushes
  };
  struct PastFlush {
    size_t number = 0;        // of its call
    size_t completed_at = 0;  // events in the trace
  };

  void Remember(size_t number, const absl::Status& status);
  std::string Check(Loop& loop, GuestDisk& disk, size_t acknowledged_before, size_t position) const;
  std::string CheckSector(uint64_t sector, const std::byte* found, size_t acknowledged_before,
                          size_t position) const;

  const DiskTrace& trace_;
  std::vector<PastWrite> writes_;              // the stamp is the index + 1
  std::vector<std::vector<Stamp>> writes_of_;  // by sector, in order
  std::vector<PastFlush> flushes_;             // that succeeded
  size_t clock_ = 0;
  size_t failed_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_STAMPED_GUEST_H_
