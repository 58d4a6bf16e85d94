#ifndef RINGCOW_BENCH_BARRIER_H_
#define RINGCOW_BENCH_BARRIER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/write_back.h"

namespace ringcow {

// What a flush of the metadata cache is measured on: a file whose space is written already, with
// room for tables at its beginning and for guest data behind them.
absl::Status PrepareBarrierFile(const std::string& path);

// A barrier: `tables` changed tables of one kind, then as many of another that refer to them.
struct BarrierCase {
  WriteBackOptions options;
  uint32_t tables = 1;    // of each stage
  uint32_t distance = 2;  // from one changed table to the next, in tables; those between are cached
  bool one_stage = false;
  // Meanwhile 32 writes of 4 KiB at a time go to random places of the guest's data.
  bool with_stream = false;
  bool sync_inline = false;  // see Rings::Options
};

// Everything that one run of barriers did, one after the other.
struct BarrierRun {
  double median_us = 0;  // from the call of Flush to its return
  // Per barrier:
  double sqes = 0;  // the stream's included
  double enters = 0;
  double fsyncs = 0;
  double writes = 0;
  double metadata_bytes = 0;
  // Writes of the stream per second.
  double stream_rate = 0;
};

// On a loop and rings of its own. Barriers of which nothing can be learned (`count` of 0) leave the
// stream alone, for `stream_seconds`.
absl::StatusOr<BarrierRun> RunBarriers(const std::string& path, const BarrierCase& a_case,
                                       uint32_t count, double stream_seconds);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_BARRIER_H_
