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

// Neighbouring tables of the same content go into one write when nothing but sectors of those two
// tables lies between their changes.
bool Joins(const PlannedWrite& write, const Table& table) {
  if (write.content != table.content) return false;
  const Table& last = *write.parts.back().table;
  return last.offset + last.bytes == table.offset;
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

void CopyTables(PlannedWrite& write, std::byte* to) {
  const HostOffset end = write.offset + write.bytes.size();
  for (const PlannedWrite::Part& part : write.parts) {
    const Table& table = *part.table;
    const HostOffset from = std::max(write.offset, table.offset);
    const HostOffset until = std::min(end, table.offset + table.bytes);
    std::memcpy(to + (from - write.offset), table.data + (from - table.offset), until - from);
  }
  write.bytes = {to, write.bytes.size()};
}

}  // namespace

WritePlan::WritePlan(const std::vector<std::vector<Table*>>& stages, Version now) : through_(now) {
  size_t copied = 0;
  for (const std::vector<Table*>& tables : stages) {
    std::vector<PlannedWrite>& writes = stages_.emplace_back();
    for (Table* table : tables) {
      if (!table->is_dirty()) continue;
      RINGCOW_INVARIANT(table->in_flight == 0, "one plan at a time");
      if (writes.empty() || !Joins(writes.back(), *table)) writes.emplace_back();
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
