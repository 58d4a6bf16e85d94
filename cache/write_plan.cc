#include "cache/write_plan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/invariant.h"

namespace ringcow {
namespace {

size_t FirstDirtyByte(const Table& table) {
  return std::countr_zero(table.dirty) * size_t{table.dirty_unit};
}

size_t EndOfDirtyBytes(const Table& table) {
  return (64 - std::countl_zero(table.dirty)) * size_t{table.dirty_unit};
}

// Room for a write's copy. Each begins on a page, because a disk may want more alignment of memory
// than of offsets, and a chain cannot bounce.
size_t RoomFor(const PlannedWrite& write) {
  return (write.bytes.size() + kBufferAlignment - 1) & ~(kBufferAlignment - 1);
}

// Goes on with `write` up to the changes of `table`, if that is allowed. What lies between is
// written as it is on the disk already. Where it is not a slice of the very table that is being
// changed, a damaged image may use it for something else.
bool Reach(PlannedWrite& write, const Table& table, uint64_t merge_gap) {
  const HostOffset begin = table.offset + FirstDirtyByte(table);
  if (write.content != table.content) return false;
  if (begin - (write.offset + write.bytes.size()) > merge_gap) return false;
  const Table& last = *write.parts.back().table;
  const HostOffset gap = last.offset + last.bytes;
  if (gap == table.offset) return true;
  if (gap.value() / table.whole_bytes != last.offset.value() / table.whole_bytes ||
      gap.value() / table.whole_bytes != table.offset.value() / table.whole_bytes) {
    return false;
  }
  std::vector<const Table*> between;
  for (HostOffset at = gap; at < table.offset; at = at + table.bytes) {
    const auto found = table.siblings->find(at);
    if (found == table.siblings->end() || !found->second->mirrors_disk()) return false;
    between.push_back(found->second);
  }
  write.between.insert(write.between.end(), between.begin(), between.end());
  return true;
}

// Lays out a write's span without its bytes.
void Extend(PlannedWrite& write, Table& table) {
  const HostOffset end = table.offset + EndOfDirtyBytes(table);
  if (write.parts.empty()) {
    write.offset = table.offset + FirstDirtyByte(table);
    write.content = table.content;
  }
  write.parts.push_back({&table, table.dirty});
  write.bytes = {static_cast<const std::byte*>(nullptr), end - write.offset};
}

// Copies as much of `table` as the write has room for.
void CopyTable(const PlannedWrite& write, const Table& table, std::byte* to) {
  const HostOffset from = std::max(write.offset, table.offset);
  const HostOffset until = std::min(write.offset + write.bytes.size(), table.offset + table.bytes);
  std::memcpy(to + (from - write.offset), table.data + (from - table.offset), until - from);
}

void CopyTables(PlannedWrite& write, std::byte* to) {
  for (const PlannedWrite::Part& part : write.parts) CopyTable(write, *part.table, to);
  for (const Table* table : write.between) CopyTable(write, *table, to);
  write.bytes = {to, write.bytes.size()};
}

}  // namespace

WritePlan::WritePlan(const std::vector<std::vector<Table*>>& stages, Version now,
                     uint64_t merge_gap)
    : through_(now) {
  size_t copied = 0;
  for (const std::vector<Table*>& tables : stages) {
    std::vector<PlannedWrite>& writes = stages_.emplace_back();
    for (Table* table : tables) {
      if (!table->is_dirty()) continue;
      RINGCOW_INVARIANT(table->in_flight == 0, "one plan at a time");
      if (writes.empty() || !Reach(writes.back(), *table, merge_gap)) writes.emplace_back();
      Extend(writes.back(), *table);
    }
    for (const PlannedWrite& write : writes) copied += RoomFor(write);
  }

  copies_ = AlignedBuffer(copied);
  std::byte* next = copies_.data();
  for (std::vector<PlannedWrite>& writes : stages_) {
    for (PlannedWrite& write : writes) {
      CopyTables(write, next);
      next += RoomFor(write);
    }
  }
}

size_t WritePlan::writes() const {
  size_t count = 0;
  for (const std::vector<PlannedWrite>& writes : stages_) count += writes.size();
  return count;
}

}  // namespace ringcow
