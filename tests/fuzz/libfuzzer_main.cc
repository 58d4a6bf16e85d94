// A libFuzzer binary of the target FUZZ_TARGET (see BUILD).

#include <algorithm>
#include <random>
#include <vector>

#include "tests/fuzz/mutate.h"
#include "tests/fuzz/targets.h"

// NOLINTBEGIN(readability-identifier-naming): libFuzzer's names.
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringcow::FUZZ_TARGET(std::as_bytes(std::span(data, size)));
  return 0;
}

// Half of the time libFuzzer's own mutations, which learn what the code compares with; the other
// half ours, which know where an image has something to damage.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  std::mt19937 random(seed);
  if (size == 0 || random() % 2 == 0) return LLVMFuzzerMutate(data, size, max_size);
  const auto input = std::as_bytes(std::span(data, size));
  std::vector<std::byte> bytes(input.begin(), input.end());
  ringcow::Mutate(bytes, random);
  std::transform(bytes.begin(), bytes.end(), data,
                 [](std::byte byte) { return static_cast<uint8_t>(byte); });
  return bytes.size();
}
// NOLINTEND(readability-identifier-naming)
