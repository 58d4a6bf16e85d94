#ifndef RINGCOW_TESTS_FUZZ_TARGETS_H_
#define RINGCOW_TESTS_FUZZ_TARGETS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/invariant.h"
#include "qcow2/format/big_endian.h"

namespace ringcow {

// Each takes any bytes at all, and ends the process where the code under test does not keep its
// word. libFuzzer drives them (libfuzzer_main.cc), and so does an ordinary test (replay_test.cc).

// The first cluster of an image.
void FuzzHeader(std::span<const std::byte> input);
// A byte that chooses a format (FormatFrom), then entries of 8 bytes.
void FuzzTableEntries(std::span<const std::byte> input);
// The number of snapshots (4 bytes), then the table.
void FuzzSnapshotTable(std::span<const std::byte> input);
// The number of bitmaps (4 bytes), then the directory.
void FuzzBitmapDirectory(std::span<const std::byte> input);
// The compression type, the cluster bits, then the extent.
void FuzzCompressedCluster(std::span<const std::byte> input);
// An image. Where it wants a backing file or a data file, it gets one. It is read, written to, and
// its bitmaps and snapshots are used.
void FuzzImage(std::span<const std::byte> input);
// An image, to be checked and repaired.
void FuzzRepair(std::span<const std::byte> input);
// A record of what is reserved (see reserve_record_fuzz.cc), then an image that is to have it.
void FuzzReserveRecord(std::span<const std::byte> input);
// The rules of a blkdebug.
void FuzzBlkdebugConfig(std::span<const std::byte> input);
// What follows "json:" in the name of an image.
void FuzzImageDescription(std::span<const std::byte> input);

// Takes a number from the front of `input`; 0 where there is none.
template <typename T>
T Take(std::span<const std::byte>& input) {
  if (input.size() < sizeof(T)) return 0;
  const T value = LoadBe<T>(input.data());
  input = input.subspan(sizeof(T));
  return value;
}

// What the code under test promises. Not an assert: it holds in every build.
#define FUZZ_EXPECT(condition) RINGCOW_INVARIANT(condition, "what was promised does not hold")

}  // namespace ringcow

#endif  // RINGCOW_TESTS_FUZZ_TARGETS_H_
