#include "tests/kill/expectation.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <ranges>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"

namespace ringcow {
namespace {

constexpr uint64_t kSectorBits = 24;
constexpr size_t kNever = std::numeric_limits<size_t>::max();

uint64_t WordOf(uint64_t stamp, uint64_t sector) { return (stamp << kSectorBits) | sector; }

struct PastWrite {
  uint64_t stamp;
  size_t acknowledged_at = kNever;  // entry of the journal
};
using WritesOfSectors = absl::flat_hash_map<uint64_t, std::vector<PastWrite>>;

// In order: writes of one sector do not overlap in time.
WritesOfSectors WritesIn(std::span<const Journal::Entry> journal) {
  WritesOfSectors writes;
  for (size_t i = 0; i < journal.size(); ++i) {
    const Journal::Entry& entry = journal[i];
    for (uint64_t sector = entry.sector; sector < entry.sector + entry.count; ++sector) {
      std::vector<PastWrite>& of_sector = writes[sector];
      if (entry.event == Journal::Event::kWrite) of_sector.push_back({.stamp = entry.subject});
      if (entry.event == Journal::Event::kWritten) of_sector.back().acknowledged_at = i;
    }
  }
  return writes;
}

// Writes that were acknowledged by an earlier entry than this must have survived.
size_t PromisedBefore(std::span<const Journal::Entry> journal, bool writethrough) {
  if (writethrough) return journal.size();
  size_t promised = 0;
  for (const Journal::Entry& entry : journal) {
    if (entry.event == Journal::Event::kFlushed) promised = std::max(promised, entry.subject);
  }
  return promised;
}

bool MayBe(uint64_t word, uint64_t sector, uint64_t word_before,
           const std::vector<PastWrite>& writes, size_t promised_before) {
  for (const PastWrite& write : std::views::reverse(writes)) {
    if (word == WordOf(write.stamp, sector)) return true;
    if (write.acknowledged_at < promised_before) return false;
  }
  return word == word_before;
}

bool IsOneWord(const std::byte* sector, uint64_t word) {
  return std::memcmp(sector, &word, sizeof(word)) == 0 &&
         std::memcmp(sector, sector + sizeof(word), kStampedSector - sizeof(word)) == 0;
}

}  // namespace

void FillStamped(uint64_t stamp, uint64_t sector, std::span<std::byte> sectors) {
  for (size_t at = 0; at < sectors.size(); at += sizeof(uint64_t)) {
    const uint64_t word = WordOf(stamp, sector + at / kStampedSector);
    std::memcpy(sectors.data() + at, &word, sizeof(word));
  }
}

std::string Expectation::Judge(std::span<const Journal::Entry> journal, bool writethrough,
                               std::span<const std::byte> found) {
  const WritesOfSectors writes = WritesIn(journal);
  const size_t promised_before = PromisedBefore(journal, writethrough);
  for (uint64_t sector = 0; sector < sectors(); ++sector) {
    const std::byte* const bytes = found.data() + sector * kStampedSector;
    uint64_t word = 0;
    std::memcpy(&word, bytes, sizeof(word));
    if (!IsOneWord(bytes, word)) return absl::StrFormat("sector %d is made of pieces", sector);
    const auto of_sector = writes.find(sector);
    const bool is_right = of_sector == writes.end() ? word == words_[sector]
                                                    : MayBe(word, sector, words_[sector],
                                                            of_sector->second, promised_before);
    if (!is_right) {
      return absl::StrFormat(
          "sector %d holds %#x (stamp %d); before this life it held %#x, and %d writes to it are "
          "in "
          "the journal",
          sector, word, word >> kSectorBits, words_[sector],
          of_sector == writes.end() ? 0 : of_sector->second.size());
    }
    words_[sector] = word;
  }
  return "";
}

}  // namespace ringcow
