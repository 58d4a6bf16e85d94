#include "qcow2/resident_table.h"

#include <bit>
#include <utility>

#include "engine/status_macros.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

// The offset in an entry of either kind of table, without flags.
constexpr uint64_t kOffsetMask = 0x00fffffffffffe00;

}  // namespace

ResidentTable::ResidentTable(TableCache& cache, HostOffset offset, uint64_t entries)
    : cache_(&cache),
      offset_(offset),
      entries_(entries),
      pin_bits_(std::countr_zero(cache.table_bytes() / kTableEntryBytes)) {
  pins_.reserve(DivideRoundUp(entries, entries_per_pin()));
}

Task<absl::StatusOr<ResidentTable>> ResidentTable::Load(TableCache& cache, HostOffset offset,
                                                        uint64_t entries) {
  ResidentTable table(cache, offset, entries);
  for (uint64_t at = 0; at < entries * kTableEntryBytes; at += cache.table_bytes()) {
    CO_ASSIGN_OR_RETURN(TablePin pin, co_await cache.Get(offset + at));
    table.pins_.push_back(std::move(pin));
  }
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t offset = table.Get(i) & kOffsetMask;
    if (offset != 0) table.Name(offset);
  }
  co_return std::move(table);
}

Task<absl::StatusOr<ResidentTable>> ResidentTable::MakeEmpty(TableCache& cache, HostOffset offset,
                                                             uint64_t entries) {
  ResidentTable table(cache, offset, entries);
  for (uint64_t at = 0; at < entries * kTableEntryBytes; at += cache.table_bytes()) {
    CO_ASSIGN_OR_RETURN(TablePin pin, co_await cache.GetEmpty(offset + at));
    table.pins_.push_back(std::move(pin));
  }
  co_return std::move(table);
}

void ResidentTable::Name(uint64_t offset) {
  named_.insert(offset);
  may_be_named_.set(MarkOf(offset));
}

void ResidentTable::Set(uint64_t index, uint64_t value) {
  RINGCOW_INVARIANT(index < entries_, "table index out of range");
  const TablePin& pin = PinOf(index);
  const uint64_t slot = index & (entries_per_pin() - 1);
  named_.erase(Get(index) & kOffsetMask);
  if (const uint64_t offset = value & kOffsetMask; offset != 0) Name(offset);
  StoreBe64At(pin.bytes(), slot, value);
  cache_->MarkDirty(pin, slot * kTableEntryBytes, kTableEntryBytes);
}

}  // namespace ringcow
