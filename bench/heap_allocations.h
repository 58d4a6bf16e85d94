#ifndef RINGCOW_BENCH_HEAP_ALLOCATIONS_H_
#define RINGCOW_BENCH_HEAP_ALLOCATIONS_H_

#include <cstdint>

namespace ringcow {

// How often this thread has asked the heap for memory, by any operator new: a program that calls
// this has them replaced by ones that count.
uint64_t HeapAllocations();

}  // namespace ringcow

#endif  // RINGCOW_BENCH_HEAP_ALLOCATIONS_H_
