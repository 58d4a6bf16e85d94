#ifndef RINGCOW_QCOW2_SPARSE_RUN_H_
#define RINGCOW_QCOW2_SPARSE_RUN_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace ringcow {

// Bytes, all of them to be written or all of them zeroes.
struct SparseRun {
  uint64_t bytes = 0;
  bool zero = false;
};

// How the beginning of `bytes`, which are not empty and lie at `offset`, is to be stored: blocks of
// `grain` bytes (a power of two; counted from offset 0) that hold nothing but zeroes need no
// space, if `min_zeroes` bytes or more of them follow each other. Shorter gaps would cost more than
// they save. `min_zeroes` 0: everything is to be written.
SparseRun FirstSparseRun(std::span<const std::byte> bytes, uint64_t offset, uint64_t grain,
                         uint64_t min_zeroes);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_SPARSE_RUN_H_
