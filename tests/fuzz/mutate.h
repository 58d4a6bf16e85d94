#ifndef RINGCOW_TESTS_FUZZ_MUTATE_H_
#define RINGCOW_TESTS_FUZZ_MUTATE_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace ringcow {

// Damages `bytes` as a hostile or unlucky hand would: bits and big-endian numbers, mostly where
// there is something (an image is mostly zeroes) or at the beginning, and sometimes the length. Not
// longer than before. The same seed, the same damage.
void Mutate(std::vector<std::byte>& bytes, std::mt19937& random);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_FUZZ_MUTATE_H_
