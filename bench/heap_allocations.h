#ifndef RINGCOW_BENCH_HEAP_ALLOCATIONS_H_
#define RINGCOW_BENCH_HEAP_ALLOCATIONS_H_

#include <cstdint>

namespace ringcow {

// Whether HeapAllocations counts. The sanitizers need operators new of their own.
extern const bool kCountsHeapAllocations;

// How often this thread has asked the heap for memory, by any operator new: a program that calls
// this has them replaced by ones that count. 0 where that must not be.
uint64_t HeapAllocations();

}  // namespace ringcow

#endif  // RINGCOW_BENCH_HEAP_ALLOCATIONS_H_
