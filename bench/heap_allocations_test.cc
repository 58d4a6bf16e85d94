#include "bench/heap_allocations.h"

#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

struct alignas(256) Wide {
  char bytes[256];
};

// Kept where the compiler cannot see that nobody looks.
void* volatile kept;

TEST(HeapAllocationsTest, CountsEveryForm) {
  if (!kCountsHeapAllocations) GTEST_SKIP() << "under a sanitizer";
  const uint64_t before = HeapAllocations();
  const auto one = std::make_unique<int>(1);
  kept = one.get();
  EXPECT_EQ(HeapAllocations() - before, 1U);
  const auto many = std::make_unique<int[]>(100);
  kept = many.get();
  EXPECT_EQ(HeapAllocations() - before, 2U);
  const auto wide = std::make_unique<Wide>();
  kept = wide.get();
  EXPECT_EQ(HeapAllocations() - before, 3U);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(wide.get()) % 256, 0U);
  int* const silent = new (std::nothrow) int(1);
  kept = silent;
  EXPECT_EQ(HeapAllocations() - before, 4U);
  delete silent;
  std::string text(1000, 'x');
  kept = text.data();
  EXPECT_EQ(HeapAllocations() - before, 5U);
  std::vector<int> room;
  room.reserve(10);
  kept = room.data();
  EXPECT_EQ(HeapAllocations() - before, 6U);
}

TEST(HeapAllocationsTest, DoesNotCountThoseOfOtherThreads) {
  if (!kCountsHeapAllocations) GTEST_SKIP() << "under a sanitizer";
  uint64_t theirs = 0;
  std::thread other([&] {
    const auto one = std::make_unique<int>(1);
    kept = one.get();
    theirs = HeapAllocations();
  });
  const uint64_t ours = HeapAllocations();
  other.join();
  EXPECT_GE(theirs, 1U);
  EXPECT_EQ(HeapAllocations(), ours);
}

}  // namespace
}  // namespace ringcow
