#include "qcow2/sparse_run.h"

#include <algorithm>

#include "engine/zeroes.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

// The bytes in front that are in blocks which are alike: zeroes or not.
SparseRun FirstAlike(std::span<const std::byte> bytes, uint64_t offset, uint64_t grain) {
  SparseRun run;
  while (run.bytes < bytes.size()) {
    const uint64_t at = offset + run.bytes;
    const uint64_t block_end = AlignDown(at, grain) + grain;
    const uint64_t length = std::min<uint64_t>(block_end - at, bytes.size() - run.bytes);
    const bool zero = AreZeroes(bytes.subspan(run.bytes, length));
    if (run.bytes == 0) run.zero = zero;
    if (zero != run.zero) break;
    run.bytes += length;
  }
  return run;
}

}  // namespace

SparseRun FirstSparseRun(std::span<const std::byte> bytes, uint64_t offset, uint64_t grain,
                         uint64_t min_zeroes) {
  if (min_zeroes == 0) return {.bytes = bytes.size(), .zero = false};
  const uint64_t enough = std::min<uint64_t>(min_zeroes, bytes.size());
  SparseRun run = FirstAlike(bytes, offset, grain);
  if (run.zero && run.bytes >= enough) return run;
  run.zero = false;
  while (run.bytes < bytes.size()) {
    const SparseRun next = FirstAlike(bytes.subspan(run.bytes), offset + run.bytes, grain);
    if (next.zero && next.bytes >= std::min(enough, bytes.size() - run.bytes)) break;
    run.bytes += next.bytes;
  }
  return run;
}

}  // namespace ringcow
