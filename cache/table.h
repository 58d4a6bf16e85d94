#ifndef RINGCOW_CACHE_TABLE_H_
#define RINGCOW_CACHE_TABLE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "engine/counters.h"
#include "engine/host_offset.h"

namespace ringcow {

class TableCache;
class WriteBack;
class WriteOrder;
struct Table;

// The order of all changes to all tables of an image: every MarkDirty takes the next value. A
// table is durable "through" a version when the disk holds, past a power cut, all of its changes up
// to that version, whether or not one of them has that version.
using Version = uint64_t;

// `before`, with its changes up to `through`, must be durable before the table that holds this edge
// is written. Satisfied, and without meaning, once before->durable >= through.
struct OrderEdge {
  Table* before;
  Version through;
};

// The tables of one cache.
using TablesByOffset = absl::flat_hash_map<HostOffset, Table*>;

// One cached table: a slice of an L1, L2, refcount table or refcount block, or the header. What is
// in it is not known here, only where it belongs and what of it must be written.
struct Table {
  HostOffset offset;  // multiple of `bytes`
  std::byte* data = nullptr;
  uint32_t bytes = 0;
  uint32_t dirty_unit = 0;  // bytes a bit of `dirty` stands for, a power of two
  Content content = Content::kOther;
  bool loading = false;
  // Its changes were given up: what is in memory is not what is on the disk.
  bool abandoned = false;
  uint32_t pins = 0;
  // What it is a slice of lies in the block of so many bytes (a power of two) around it...
  uint64_t whole_bytes = 0;
  const TablesByOffset* siblings = nullptr;  // ...and the other slices are found here

  // Bit i: bytes [i, i + 1) * dirty_unit differ from what was last written.
  uint64_t dirty = 0;
  // The part of `dirty` that a plan in flight took over; given back when its write fails.
  uint64_t in_flight = 0;

  Version changed = 0;    // of the newest change
  Version written = 0;    // the disk has been given the changes up to here...
  Version durable = 0;    // ...and they survive a power cut up to here
  uint64_t sync_due = 0;  // ordinal of the first sync that makes `written` durable

  // Ordinal of the sync that must have completed before this table is written (DependsOnFlush).
  uint64_t after_sync = 0;
  absl::InlinedVector<OrderEdge, 2> after;

  uint64_t used_in = 0;  // the cache's round (TableCache::CleanUnused) of the last use
  // Links of the cache's list of least recent use, and of the list of dirty tables.
  Table* lru_newer = nullptr;
  Table* lru_older = nullptr;
  Table* dirty_next = nullptr;
  Table* dirty_previous = nullptr;

  bool is_dirty() const { return dirty != 0; }
  // The disk was given all that is in memory: writing it once more changes nothing.
  bool mirrors_disk() const { return !loading && !abandoned && dirty == 0 && in_flight == 0; }
  // Nothing would be lost, nor any ordering forgotten, if the table left the cache.
  bool is_settled() const { return dirty == 0 && in_flight == 0 && durable >= changed; }

  uint64_t UnitsOf(size_t at, size_t length) const {
    const int unit_bits = std::countr_zero(dirty_unit);
    const size_t first = at >> unit_bits;
    const size_t last = (at + length - 1) >> unit_bits;
    const uint64_t from_first = ~uint64_t{0} << first;
    return last == 63 ? from_first : from_first & ((uint64_t{1} << (last + 1)) - 1);
  }
};

}  // namespace ringcow

#endif  // RINGCOW_CACHE_TABLE_H_
