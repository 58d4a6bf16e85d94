#ifndef RINGCOW_TESTS_SUPPORT_EXCHANGE_H_
#define RINGCOW_TESTS_SUPPORT_EXCHANGE_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>

namespace ringcow {

// What a test needs that lets QEMU and us use one image in turn. All of them fail the test when
// they do not succeed.

void WriteFile(const std::string& path, std::span<const std::byte> bytes);

// Both checks find nothing, not even a leak, and QEMU reads what is in `bytes`.
void ExpectCleanAndEqual(const std::string& path, std::span<const std::byte> bytes);

// Random requests by qemu-io (writes, zeroes, discards), applied to `bytes` too.
void WriteWithQemu(const std::string& path, uint64_t cluster, std::span<std::byte> bytes,
                   std::mt19937_64& random);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_EXCHANGE_H_
