#ifndef RINGCOW_ENGINE_TESTING_IGNORED_FSYNCS_H_
#define RINGCOW_ENGINE_TESTING_IGNORED_FSYNCS_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "engine/counters.h"
#include "engine/testing/disk_trace.h"

namespace ringcow {

// The trace of a disk that ignored some fsyncs and said that they had succeeded: a negative control
// for whoever relies on them. `ignores` is asked about each as it starts, with its number (from 0)
// and what was last written before it, guest data excepted; a dsync write, about its own content.
// The events keep their positions.
DiskTrace WithIgnoredFsyncs(const DiskTrace& trace,
                            absl::FunctionRef<bool(size_t n, Content written)> ignores);

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_TESTING_IGNORED_FSYNCS_H_
