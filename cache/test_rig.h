#ifndef RINGCOW_CACHE_TEST_RIG_H_
#define RINGCOW_CACHE_TEST_RIG_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/table_cache.h"
#include "cache/write_back.h"
#include "engine/aligned_buffer.h"
#include "engine/invariant.h"
#include "engine/loop.h"
#include "engine/testing/disk_trace.h"
#include "engine/testing/sim_disk.h"

namespace ringcow {

// A simulated disk, a WriteBack and a cache of 4 KiB tables, for the tests of cache/.
struct TestRig {
  static constexpr uint32_t kTable = 4096;
  static constexpr uint32_t kSector = 512;

  explicit TestRig(const WriteBackOptions& options = {}, size_t tables = 64,
                   const SimDisk::Options& disk_options = {}, DiskImage content = DiskImage())
      : TestRig({.content = Content::kL2, .table_bytes = kTable, .tables = tables}, options,
                disk_options, std::move(content)) {}
  explicit TestRig(const TableCacheOptions& cache_options, const WriteBackOptions& options = {},
                   const SimDisk::Options& disk_options = {}, DiskImage content = DiskImage())
      : disk(loop, disk_options, std::move(content)),
        write_back(disk, options),
        cache(write_back, cache_options) {}

  static HostOffset Place(size_t n) { return HostOffset(n * kTable); }

  // The n-th table, which must be there to be had.
  TablePin Get(size_t n) {
    absl::StatusOr<TablePin> pin = loop.Run(cache.Get(Place(n)));
    RINGCOW_INVARIANT(pin.ok(), pin.status().ToString().c_str());
    return *std::move(pin);
  }

  // Sets all bytes of a sector.
  void Change(const TablePin& pin, size_t sector, int value) {
    std::fill_n(pin.bytes().data() + sector * kSector, kSector, static_cast<std::byte>(value));
    cache.MarkDirty(pin, sector * kSector, kSector);
  }
  static int ValueIn(const TablePin& pin, size_t sector) {
    return static_cast<int>(pin.bytes()[sector * kSector]);
  }
  int ValueOnDisk(size_t table, size_t sector = 0) {
    std::byte value{};
    disk.content().Read(table * kTable + sector * kSector, {&value, 1});
    return static_cast<int>(value);
  }

  absl::Status Flush() { return loop.Run(write_back.Flush()); }
  absl::Status Order(const TablePin& after, const TablePin& before) {
    return loop.Run(write_back.SetDependency(after.table(), before.table()));
  }
  absl::Status WriteData(size_t place) {
    const AlignedBuffer data(kTable);
    std::fill_n(data.data(), kTable, std::byte{0xda});
    auto write = [](Disk& to, HostOffset at,
                    std::span<const std::byte> bytes) -> Task<absl::Status> {
      co_return co_await to.Write(at, bytes);
    };
    return loop.Run(write(disk, Place(place), data.span()));
  }

  // The n-th request from here on (from 0) meets `fault`.
  void FailNth(uint64_t n, Fault fault) {
    const uint64_t ordinal = disk.requests() + n;
    disk.SetFaults([=](const Request&, uint64_t i) { return i == ordinal ? fault : Fault(); });
  }
  uint64_t reads() const { return disk.counters()[Content::kL2].reads; }
  uint64_t writes() const { return disk.counters()[Content::kL2].writes; }
  uint64_t fsyncs() const { return disk.counters().fsyncs; }

  Loop loop;
  SimDisk disk;
  WriteBack write_back;
  TableCache cache;
};

// A write of the n-th table, or of a span that includes it, as the trace has it.
inline bool IsWriteOf(size_t n, const TraceEvent& event, TraceEvent::Kind kind) {
  return event.kind == kind && event.request->op == Op::kWrite &&
         event.request->offset < TestRig::Place(n + 1) && TestRig::Place(n) < event.request->end();
}

// Whether the event is a write of the n-th table that has succeeded in full.
inline bool IsWritten(size_t n, const TraceEvent& event) {
  return IsWriteOf(n, event, TraceEvent::Kind::kCompleted) &&
         event.result == static_cast<int64_t>(event.request->length);
}

// Follows a trace and knows when a write of the n-th table has become durable: an fsync that
// started behind the whole write has succeeded, or it was a durable one.
class DurabilityOf {
 public:
  explicit DurabilityOf(size_t n) : n_(n) {}

  void See(const TraceEvent& event) {
    if (event.kind == TraceEvent::Kind::kMark) return;
    if (event.request->op == Op::kFdatasync) {
      const uint64_t fsync = event.request->ordinal;
      if (event.kind == TraceEvent::Kind::kStarted && is_written_) covering_.insert(fsync);
      if (event.kind == TraceEvent::Kind::kCompleted && event.result == 0) {
        is_durable_ |= covering_.contains(fsync);
      }
    }
    is_written_ |= IsWritten(n_, event);
    is_durable_ |= IsWritten(n_, event) && event.request->dsync;
  }
  bool is_durable() const { return is_durable_; }

 private:
  const size_t n_;
  bool is_written_ = false;
  bool is_durable_ = false;
  std::set<uint64_t> covering_;  // fsyncs that started behind the write
};

inline bool IsDurable(const DiskTrace& trace, size_t n) {
  DurabilityOf table(n);
  for (const TraceEvent& event : trace.events()) table.See(event);
  return table.is_durable();
}

// Whether, from event `from` of the trace on, each write of the table `after` starts only when
// `before` is durable.
inline bool IsOrdered(const DiskTrace& trace, size_t before, size_t after, size_t from = 0) {
  DurabilityOf first(before);
  for (size_t i = from; i < trace.size(); ++i) {
    const TraceEvent& event = trace.events()[i];
    first.See(event);
    if (IsWriteOf(after, event, TraceEvent::Kind::kStarted) && !first.is_durable()) return false;
  }
  return true;
}

}  // namespace ringcow

#endif  // RINGCOW_CACHE_TEST_RIG_H_
