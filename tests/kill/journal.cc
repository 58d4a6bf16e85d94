#include "tests/kill/journal.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "engine/invariant.h"

namespace ringcow {

Journal::Journal() {
  void* const memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  RINGCOW_INVARIANT(memory != MAP_FAILED, "there is memory to share");
  // Default-initialized, so that the pages of the entries come when they are needed.
  shared_ = new (memory) Shared;
}

Journal::~Journal() { (void)munmap(shared_, sizeof(Shared)); }

void Journal::Clear() {
  shared_->phase = Phase::kCreating;
  shared_->entries = 0;
  shared_->failure_chars = 0;
}

void Journal::Add(const Entry& entry) {
  const size_t number = shared_->entries.load(std::memory_order_relaxed);
  while (number == kMostEntries) (void)pause();
  shared_->entry[number] = entry;
  shared_->entries.store(number + 1, std::memory_order_release);
}

void Journal::Fail(absl::string_view what) {
  const size_t chars = std::min(what.size(), kMostFailureChars);
  std::copy_n(what.begin(), chars, shared_->failure);
  shared_->failure_chars.store(chars, std::memory_order_release);
}

std::span<const Journal::Entry> Journal::entries() const {
  return std::span(shared_->entry).first(shared_->entries.load(std::memory_order_acquire));
}

std::string Journal::failure() const {
  return std::string(shared_->failure, shared_->failure_chars.load(std::memory_order_acquire));
}

}  // namespace ringcow
