#ifndef RINGCOW_CACHE_TABLE_CACHE_H_
#define RINGCOW_CACHE_TABLE_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/table.h"
#include "cache/write_back.h"
#include "engine/aligned_buffer.h"
#include "engine/task.h"
#include "engine/wait_list.h"

namespace ringcow {

// A pinned table: it stays in the cache, at its address, until the pin goes out of scope (QEMU's
// "put"). Cheap to copy and to move. Must not outlive its cache.
class TablePin {
 public:
  TablePin() = default;
  explicit TablePin(Table& table) : table_(&table) { ++table.pins; }
  TablePin(const TablePin& other) : table_(other.table_) {
    if (table_ != nullptr) ++table_->pins;
  }
  TablePin(TablePin&& other) noexcept : table_(std::exchange(other.table_, nullptr)) {}
  TablePin& operator=(TablePin other) noexcept {
    std::swap(table_, other.table_);
    return *this;
  }
  ~TablePin() {
    if (table_ != nullptr) --table_->pins;
  }

  explicit operator bool() const { return table_ != nullptr; }
  Table& table() const { return *table_; }
  HostOffset offset() const { return table_->offset; }
  // What is changed here must be declared with TableCache::MarkDirty before the next suspension.
  std::span<std::byte> bytes() const { return {table_->data, table_->bytes}; }

 private:
  Table* table_ = nullptr;
};

struct TableCacheOptions {
  Content content = Content::kOther;
  // Bytes a table, a power of two from 512: a slice of what the format calls a table.
  uint32_t table_bytes = 4096;
  // Bytes of what the format calls a table (a power of two): its slices are written together.
  uint64_t whole_bytes = 4096;
  // How many tables are kept. More are made only when all of them are pinned; they stay.
  size_t tables = 64;
  // Bytes (a power of two) around a missing table that are read with it: neighbours in the same
  // whole, while no other table has to leave for them. 0: the table alone.
  uint64_t read_bytes = 0;
};

// Tables of one kind, by host offset: QEMU's Qcow2Cache, with the same operations. Create and
// destroy are the constructor and destructor, put is the end of a TablePin; set dependency, depends
// on flush and flush are WriteBack's, because order and durability concern all caches of an image.
//
// Least recently used tables leave first; among those, tables whose changes are durable. A changed
// table leaves only after it was written in order and synced; a sixteenth of the cache is then
// written together, so that the barrier serves as many misses. Destroying a cache forgets what was
// not flushed; the caches of an image end together, with no flush in between, because tables of
// one refer to tables of another.
//
// Memory is allocated as tables are first used, at most tables * table_bytes.
class TableCache {
 public:
  TableCache(WriteBack& write_back, const TableCacheOptions& options);
  TableCache(const TableCache&) = delete;
  TableCache& operator=(const TableCache&) = delete;
  ~TableCache();

  uint32_t table_bytes() const { return options_.table_bytes; }

  // The table at `offset` (a multiple of table_bytes), read from the disk if need be, with some
  // around it. Requests for a table that is being read share the read. Fails with the disk's error,
  // or, when no unchanged table can leave, with that of the write that had to make room.
  Task<absl::StatusOr<TablePin>> Get(HostOffset offset);

  // The same without suspending; null when the table is not there.
  TablePin TryGet(HostOffset offset);

  // What the disk holds where a new table begins its life.
  enum class OnDisk {
    kUnknown,  // a cluster that was used before may hold anything
    kZeroes,   // space the file has just grown by
  };
  // A table of zeroes for `offset`, without a read. All of it is marked dirty, unless the disk
  // holds zeroes already.
  Task<absl::StatusOr<TablePin>> GetEmpty(HostOffset offset, OnDisk on_disk = OnDisk::kUnknown);

  // Forgets the tables in [begin, begin + length), changed or not: their cluster is given back, or
  // never came to be used. To be called before the cluster can be used for anything else: a table
  // that is in the cache may be written, unchanged, together with its neighbours. One that somebody
  // has pinned stays, as if it had not been changed: in a damaged image, an entry may name a
  // cluster that its refcount calls free.
  Task<void> Drop(HostOffset begin, uint64_t length);

  // Gives back the memory of tables that were not used since the last call, which is for whoever
  // has a clock to make: twice in an interval frees what an interval did not touch. Tables that are
  // pinned or whose changes are not durable stay. Returns how many have left.
  size_t CleanUnused();

  // Flushes the image and forgets all tables, so that what somebody else wrote to the disk is read.
  // FailedPrecondition, with the others forgotten, when one is pinned or was changed meanwhile.
  Task<absl::Status> Empty();

  // `length` bytes at `at` of the table have been changed. Dependencies are declared before.
  void MarkDirty(const TablePin& pin, size_t at, size_t length) {
    write_back_.MarkDirty(pin.table(), at, length);
  }

 private:
  // An unpinned table to be filled for `offset`, registered and pinned; null when somebody else
  // brought the table in while room was being made.
  Task<absl::StatusOr<TablePin>> Admit(HostOffset offset);
  TablePin Register(Table& table, HostOffset offset);
  // Fills a table that has just been admitted, and those around it.
  using Pins = absl::InlinedVector<TablePin, 16>;
  Task<absl::Status> Load(TablePin table);
  Pins AdmitAround(const TablePin& table);
  bool AdmitNeighbour(HostOffset offset, Pins& pins);
  Task<absl::Status> ReadInto(std::span<const TablePin> tables);
  Table* FindSettled(size_t candidates);
  std::vector<Table*> OldestUnsettled() const;
  // One that holds nothing, if there is one or memory for it.
  Table* TakeUnused();
  void AddMemory();
  static void GiveBackMemory(Table& table);
  void Forget(Table& table);

  void PushNewest(Table& table);
  void Unlink(Table& table);

  WriteBack& write_back_;
  const TableCacheOptions options_;
  TablesByOffset by_offset_;
  std::vector<std::unique_ptr<Table[]>> tables_;
  std::vector<AlignedBuffer> memory_;
  std::vector<Table*> unused_;
  size_t allocated_ = 0;  // tables
  uint64_t round_ = 1;    // begun by each CleanUnused
  Table* newest_ = nullptr;
  Table* oldest_ = nullptr;
  WaitList loaded_;
};

}  // namespace ringcow

#endif  // RINGCOW_CACHE_TABLE_CACHE_H_
