#ifndef RINGCOW_TESTS_KILL_JOURNAL_H_
#define RINGCOW_TESTS_KILL_JOURNAL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/strings/string_view.h"

namespace ringcow {

// How far the life of a guest has come.
enum class Phase : uint32_t { kCreating, kOpening, kWorking, kClosing, kEnded };
constexpr size_t kPhases = 5;

// What a guest asked of its disk and was told, in the order of time. It is kept in memory that the
// processes forked from here on share, so that it tells of a guest that was killed. One process
// writes, another may read meanwhile.
class Journal {
 public:
  enum class Event : uint32_t { kWrite, kWritten, kFlush, kFlushed };
  struct Entry {
    Event event = Event::kWrite;
    uint32_t count = 0;   // sectors, of a write
    uint64_t sector = 0;  // the first, of a write
    // Of a write: its stamp, the same when it begins and when it has ended. Of a flush: the number
    // of entries before the one with which it began.
    uint64_t subject = 0;
  };

  Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  ~Journal();

  // The writer's. Add waits for the end of the process when the journal is full.
  void Enter(Phase phase) { shared_->phase.store(phase, std::memory_order_release); }
  void Add(const Entry& entry);
  void Fail(absl::string_view what);

  void Clear();
  Phase phase() const { return shared_->phase.load(std::memory_order_acquire); }
  std::span<const Entry> entries() const;
  std::string failure() const;  // empty: none

 private:
  static constexpr size_t kMostEntries = 1 << 18;
  static constexpr size_t kMostFailureChars = 1024;
  struct Shared {
    std::atomic<Phase> phase = Phase::kCreating;
    std::atomic<size_t> entries = 0;
    std::atomic<size_t> failure_chars = 0;
    char failure[kMostFailureChars];
    Entry entry[kMostEntries];
  };

  Shared* shared_;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_KILL_JOURNAL_H_
