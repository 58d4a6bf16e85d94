#include "cache/table_cache.h"

#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/str_format.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr size_t kTablesPerAllocation = 256;
// How many of the least recently used tables are looked at for one that can leave at once.
constexpr size_t kEvictionCandidates = 64;

// How many are written together when none can: one ordered write-back then serves many misses, and
// none of them waits for more than so many writes.
size_t EvictionBatch(size_t tables) {
  return std::clamp(tables / 16, kEvictionCandidates, size_t{512});
}

uint32_t DirtyUnit(uint32_t table_bytes, uint32_t disk_alignment) {
  const uint32_t sector = std::clamp(disk_alignment, uint32_t{512}, table_bytes);
  return std::max(sector, table_bytes / 64);
}

}  // namespace

TableCache::TableCache(WriteBack& write_back, const TableCacheOptions& options)
    : write_back_(write_back), options_(options), loaded_(write_back.disk().loop()) {
  RINGCOW_INVARIANT(std::has_single_bit(options_.table_bytes) && options_.table_bytes >= 512,
                    "a table is a power of two of at least a sector");
}

TableCache::~TableCache() {
  for (const auto& [offset, table] : by_offset_) {
    RINGCOW_INVARIANT(table->pins == 0, "pins end before their cache");
  }
}

TablePin TableCache::TryGet(HostOffset offset) {
  const auto found = by_offset_.find(offset);
  if (found == by_offset_.end() || found->second->loading) return TablePin();
  Table& table = *found->second;
  table.used_in = round_;
  if (newest_ != &table) {
    Unlink(table);
    PushNewest(table);
  }
  return TablePin(table);
}

Task<absl::StatusOr<TablePin>> TableCache::Get(HostOffset offset) {
  RINGCOW_INVARIANT((offset.value() & (options_.table_bytes - 1)) == 0,
                    "tables are aligned to their size");
  for (;;) {
    if (TablePin pin = TryGet(offset)) co_return pin;
    if (by_offset_.contains(offset)) {
      co_await loaded_.Wait();
      continue;
    }
    CO_ASSIGN_OR_RETURN(const TablePin pin, co_await Admit(offset));
    if (!pin) continue;
    absl::Status status = co_await Load(pin);
    if (status.ok()) co_return pin;
    Forget(pin.table());
    co_return status;
  }
}

Task<absl::Status> TableCache::Load(TablePin table) {
  table.table().loading = true;
  const Pins around = AdmitAround(table);
  absl::Status status = co_await ReadInto(around);
  for (const TablePin& pin : around) {
    if (&pin.table() == &table.table()) continue;
    pin.table().loading = false;
    if (!status.ok()) Forget(pin.table());
  }
  // It may be one of the others that cannot be read.
  if (!status.ok() && around.size() > 1) status = co_await ReadInto({&table, 1});
  table.table().loading = false;
  loaded_.WakeAll();
  co_return status;
}

// In the order in which they lie on the disk, without a gap.
TableCache::Pins TableCache::AdmitAround(const TablePin& table) {
  const uint64_t bytes = options_.table_bytes;
  const uint64_t window = std::max(bytes, std::min(options_.read_bytes, options_.whole_bytes));
  const HostOffset begin(table.offset().value() & ~(window - 1));
  Pins pins;
  HostOffset at = table.offset();
  while (at > begin && AdmitNeighbour(HostOffset(at.value() - bytes), pins)) {
    at = HostOffset(at.value() - bytes);
  }
  std::reverse(pins.begin(), pins.end());
  pins.push_back(table);
  at = table.offset() + bytes;
  while (at < begin + window && AdmitNeighbour(at, pins)) at += bytes;
  // It is the one that is used.
  Unlink(table.table());
  PushNewest(table.table());
  return pins;
}

bool TableCache::AdmitNeighbour(HostOffset offset, Pins& pins) {
  if (by_offset_.contains(offset)) return false;
  Table* const table = TakeUnused();
  if (table == nullptr) return false;
  pins.push_back(Register(*table, offset));
  table->loading = true;
  return true;
}

Task<absl::Status> TableCache::ReadInto(std::span<const TablePin> tables) {
  const HostOffset begin = tables.front().offset();
  if (tables.size() == 1) {
    co_return co_await write_back_.disk().Read(begin, tables.front().bytes(), options_.content);
  }
  absl::InlinedVector<iovec, 16> vectors;
  for (const TablePin& pin : tables) vectors.push_back({pin.bytes().data(), pin.bytes().size()});
  co_return co_await write_back_.disk().ReadV(begin, vectors, options_.content);
}

Task<absl::StatusOr<TablePin>> TableCache::GetEmpty(HostOffset offset, OnDisk on_disk) {
  RINGCOW_INVARIANT((offset.value() & (options_.table_bytes - 1)) == 0,
                    "tables are aligned to their size");
  TablePin pin;
  while (!pin) {
    pin = TryGet(offset);
    if (pin) break;
    if (by_offset_.contains(offset)) {
      co_await loaded_.Wait();
      continue;
    }
    CO_ASSIGN_OR_RETURN(pin, co_await Admit(offset));
  }
  std::memset(pin.table().data, 0, pin.table().bytes);
  if (on_disk == OnDisk::kUnknown) MarkDirty(pin, 0, pin.table().bytes);
  co_return pin;
}

Task<void> TableCache::Drop(HostOffset begin, uint64_t length) {
  std::vector<TablePin> dropped;  // pinned, so that eviction does not take them meanwhile
  std::vector<Table*> tables;
  for (uint64_t at = 0; at < length; at += options_.table_bytes) {
    TablePin pin = TryGet(begin + at);
    if (!pin) continue;
    tables.push_back(&pin.table());
    dropped.push_back(std::move(pin));
  }
  co_await write_back_.Abandon(tables);
  dropped.clear();
  for (Table* table : tables) {
    if (table->pins == 0) Forget(*table);
  }
}

size_t TableCache::CleanUnused() {
  size_t cleaned = 0;
  Table* table = oldest_;
  while (table != nullptr && table->used_in < round_) {
    Table* newer = table->lru_newer;
    if (table->pins == 0 && table->is_settled()) {
      Forget(*table);
      GiveBackMemory(*table);
      ++cleaned;
    }
    table = newer;
  }
  ++round_;
  return cleaned;
}

// Tables smaller than a page share it with others; those few kilobytes stay.
void TableCache::GiveBackMemory(Table& table) {
  if (table.bytes % kBufferAlignment == 0) (void)madvise(table.data, table.bytes, MADV_DONTNEED);
}

Task<absl::Status> TableCache::Empty() {
  CO_RETURN_IF_ERROR(co_await write_back_.Flush());
  const Table* kept = nullptr;
  Table* table = oldest_;
  while (table != nullptr) {
    Table* newer = table->lru_newer;
    if (table->pins == 0 && table->is_settled()) {
      Forget(*table);
    } else {
      kept = table;
    }
    table = newer;
  }
  if (kept == nullptr) co_return absl::OkStatus();
  co_return absl::FailedPreconditionError(
      absl::StrFormat("'%s': %s at host offset %#x is in use", write_back_.disk().name(),
                      NameOf(options_.content), kept->offset.value()));
}

Task<absl::StatusOr<TablePin>> TableCache::Admit(HostOffset offset) {
  for (;;) {
    if (Table* table = FindSettled(kEvictionCandidates)) co_return Register(*table, offset);
    const absl::Status status = co_await write_back_.WriteOut(OldestUnsettled());
    if (by_offset_.contains(offset)) co_return TablePin();
    if (status.ok()) continue;
    // A full or failed disk must not stop reads while anything clean can leave.
    if (Table* table = FindSettled(allocated_)) co_return Register(*table, offset);
    co_return status;
  }
}

TablePin TableCache::Register(Table& table, HostOffset offset) {
  by_offset_.emplace(offset, &table);
  table.offset = offset;
  // What the disk holds for it is durable: tables that are not do not leave the cache.
  table.changed = table.written = table.durable = write_back_.now();
  table.used_in = round_;
  PushNewest(table);
  return TablePin(table);
}

// A table without contents: a new one while memory may grow, else the oldest that can leave among
// the `candidates` oldest that are not pinned.
Table* TableCache::FindSettled(size_t candidates) {
  if (Table* const table = TakeUnused()) return table;
  size_t looked_at = 0;
  bool all_pinned = true;
  for (Table* table = oldest_; table != nullptr; table = table->lru_newer) {
    if (table->pins > 0) continue;
    all_pinned = false;
    if (table->is_settled()) {
      Forget(*table);
      break;
    }
    if (++looked_at == candidates) break;
  }
  if (all_pinned) AddMemory();
  return TakeUnused();
}

Table* TableCache::TakeUnused() {
  if (unused_.empty() && allocated_ < options_.tables) AddMemory();
  if (unused_.empty()) return nullptr;
  Table* table = unused_.back();
  unused_.pop_back();
  return table;
}

std::vector<Table*> TableCache::OldestUnsettled() const {
  std::vector<Table*> tables;
  const size_t batch = EvictionBatch(options_.tables);
  for (Table* table = oldest_; table != nullptr && tables.size() < batch;
       table = table->lru_newer) {
    if (table->pins == 0 && !table->is_settled()) tables.push_back(table);
  }
  return tables;
}

void TableCache::AddMemory() {
  const size_t missing = allocated_ < options_.tables ? options_.tables - allocated_ : 1;
  const size_t count = std::min(missing, kTablesPerAllocation);
  memory_.emplace_back(count * options_.table_bytes);
  tables_.push_back(std::make_unique<Table[]>(count));
  for (size_t i = count; i-- > 0;) {
    Table& table = tables_.back()[i];
    table.data = memory_.back().data() + i * options_.table_bytes;
    table.bytes = options_.table_bytes;
    table.dirty_unit = DirtyUnit(options_.table_bytes, write_back_.disk().alignment());
    table.content = options_.content;
    table.whole_bytes = options_.whole_bytes;
    table.siblings = &by_offset_;
    unused_.push_back(&table);
  }
  allocated_ += count;
}

void TableCache::Forget(Table& table) {
  by_offset_.erase(table.offset);
  Unlink(table);
  table.after.clear();
  table.after_sync = 0;
  table.abandoned = false;
  unused_.push_back(&table);
}

void TableCache::PushNewest(Table& table) {
  table.lru_older = newest_;
  table.lru_newer = nullptr;
  (newest_ != nullptr ? newest_->lru_newer : oldest_) = &table;
  newest_ = &table;
}

void TableCache::Unlink(Table& table) {
  (table.lru_newer != nullptr ? table.lru_newer->lru_older : newest_) = table.lru_older;
  (table.lru_older != nullptr ? table.lru_older->lru_newer : oldest_) = table.lru_newer;
}

}  // namespace ringcow
