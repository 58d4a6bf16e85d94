#include "bench/barrier.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "cache/table_cache.h"
#include "engine/aligned_buffer.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/scope.h"
#include "engine/status_macros.h"
#include "engine/uring_disk.h"
#include "engine/zeroes.h"

namespace ringcow {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kTable = 4096;
constexpr uint64_t kArea = uint64_t{8} << 20;  // of each kind of table
constexpr uint64_t kDataBegin = 2 * kArea;
constexpr uint64_t kDataBytes = uint64_t{112} << 20;
constexpr uint64_t kFileBytes = kDataBegin + kDataBytes;
constexpr uint32_t kStreamDepth = 32;

double Seconds(Clock::duration elapsed) { return std::chrono::duration<double>(elapsed).count(); }

TableCacheOptions CacheOf(Content content) {
  return {
      .content = content, .table_bytes = kTable, .whole_bytes = kArea, .tables = kArea / kTable};
}

class Barriers {
 public:
  Barriers(Rings& rings, UringDisk& disk, const BarrierCase& a_case)
      : rings_(rings),
        disk_(disk),
        case_(a_case),
        write_back_(disk, a_case.options),
        before_cache_(write_back_, CacheOf(Content::kRefcountBlock)),
        after_cache_(write_back_, CacheOf(Content::kL2)) {}

  Task<absl::StatusOr<BarrierRun>> Run(uint32_t count, double stream_seconds) {
    CO_RETURN_IF_ERROR(co_await PinTables());
    // The first is not measured: it makes the file's size durable.
    (void)co_await One(0);
    rings_.ResetCounters();
    disk_.ResetCounters();
    const uint64_t writes_before = write_back_.counters().writes;

    Scope stream(rings_.loop());
    const Clock::time_point start = Clock::now();
    stop_at_ = start + std::chrono::duration_cast<Clock::duration>(
                           std::chrono::duration<double>(stream_seconds));
    is_streaming_ = case_.with_stream;
    for (uint32_t i = 0; case_.with_stream && i < kStreamDepth; ++i) {
      stream.Spawn(Stream(i, /*until_time=*/count == 0));
    }
    std::vector<double> latencies;
    absl::Status status;
    for (uint32_t i = 1; i <= count && status.ok(); ++i) {
      const absl::StatusOr<double> latency = co_await One(i);
      status.Update(latency.status());
      if (latency.ok()) latencies.push_back(*latency);
    }
    if (count > 0) is_streaming_ = false;
    status.Update(co_await stream.Join());
    CO_RETURN_IF_ERROR(status);
    co_return Result(latencies, Seconds(Clock::now() - start),
                     write_back_.counters().writes - writes_before);
  }

 private:
  Task<absl::Status> PinTables() {
    for (uint64_t i = 0; i < uint64_t{case_.tables} * case_.distance; ++i) {
      CO_ASSIGN_OR_RETURN(TablePin before, co_await before_cache_.Get(HostOffset(i * kTable)));
      CO_ASSIGN_OR_RETURN(TablePin after,
                          co_await after_cache_.Get(HostOffset(kArea + i * kTable)));
      if (i % case_.distance != 0) continue;
      before_.push_back(std::move(before));
      after_.push_back(std::move(after));
    }
    co_return absl::OkStatus();
  }

  // Returns microseconds.
  Task<absl::StatusOr<double>> One(uint32_t i) {
    const size_t at = size_t{i % (kTable / 512)} * 512;
    for (size_t n = 0; n < before_.size(); ++n) {
      Change(before_cache_, before_[n], at, i);
      if (case_.one_stage) continue;
      CO_RETURN_IF_ERROR(co_await write_back_.SetDependency(after_[n].table(), before_[n].table()));
      Change(after_cache_, after_[n], at, i);
    }
    const Clock::time_point start = Clock::now();
    CO_RETURN_IF_ERROR(co_await write_back_.Flush());
    co_return Seconds(Clock::now() - start) * 1e6;
  }

  static void Change(TableCache& cache, const TablePin& pin, size_t at, uint32_t value) {
    std::memcpy(pin.bytes().data() + at, &value, sizeof(value));
    cache.MarkDirty(pin, at, sizeof(value));
  }

  Task<absl::Status> Stream(uint32_t seed, bool until_time) {
    std::mt19937_64 random(seed);
    const AlignedBuffer bytes(kTable);
    std::memset(bytes.data(), 1, kTable);
    while (until_time ? Clock::now() < stop_at_ : is_streaming_) {
      const uint64_t place = random() % (kDataBytes / kTable);
      CO_RETURN_IF_ERROR(
          co_await disk_.Write(HostOffset(kDataBegin + place * kTable), bytes.span()));
      ++streamed_;
    }
    co_return absl::OkStatus();
  }

  BarrierRun Result(std::vector<double> latencies, double seconds, uint64_t writes) const {
    BarrierRun run;
    run.stream_rate = static_cast<double>(streamed_) / seconds;
    if (latencies.empty()) return run;
    const auto per_barrier = [&](uint64_t count) {
      return static_cast<double>(count) / static_cast<double>(latencies.size());
    };
    const auto middle = latencies.begin() + static_cast<ptrdiff_t>(latencies.size() / 2);
    std::nth_element(latencies.begin(), middle, latencies.end());
    run.median_us = *middle;
    run.sqes = per_barrier(rings_.counters().sqes);
    run.enters = per_barrier(rings_.counters().enters);
    run.fsyncs = per_barrier(disk_.counters().fsyncs);
    run.writes = per_barrier(writes);
    run.metadata_bytes = per_barrier(disk_.counters().MetadataBytesWritten());
    return run;
  }

  Rings& rings_;
  UringDisk& disk_;
  const BarrierCase case_;
  WriteBack write_back_;
  TableCache before_cache_;
  TableCache after_cache_;
  std::vector<TablePin> before_;
  std::vector<TablePin> after_;
  bool is_streaming_ = false;
  Clock::time_point stop_at_;
  uint64_t streamed_ = 0;
};

Task<absl::Status> Fill(UringDisk& disk) {
  CO_RETURN_IF_ERROR(co_await WriteZeroBytes(disk, HostOffset(0), kFileBytes));
  co_return co_await disk.Fdatasync();
}

}  // namespace

absl::Status PrepareBarrierFile(const std::string& path) {
  Loop loop;
  ASSIGN_OR_RETURN(const std::unique_ptr<Rings> rings, Rings::Create(loop));
  UringDisk::Options options;
  options.creation = UringDisk::Creation::kExclusive;
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, UringDisk::Open(*rings, path, options));
  return loop.Run(Fill(*disk));
}

absl::StatusOr<BarrierRun> RunBarriers(const std::string& path, const BarrierCase& a_case,
                                       uint32_t count, double stream_seconds) {
  Loop loop;
  ASSIGN_OR_RETURN(const std::unique_ptr<Rings> rings,
                   Rings::Create(loop, {.sync_inline = a_case.sync_inline}));
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, UringDisk::Open(*rings, path));
  Barriers barriers(*rings, *disk, a_case);
  return loop.Run(barriers.Run(count, stream_seconds));
}

}  // namespace ringcow
