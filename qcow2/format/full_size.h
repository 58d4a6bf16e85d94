#ifndef RINGCOW_QCOW2_FORMAT_FULL_SIZE_H_
#define RINGCOW_QCOW2_FORMAT_FULL_SIZE_H_

#include <cstdint>

#include "qcow2/format/geometry.h"

namespace ringcow {

// How long the file of a new image is, in bytes, when every guest cluster has a host cluster: the
// header, the tables for all of them, the refcounts of everything, and the data.
uint64_t FullImageBytes(const Geometry& geometry);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_FULL_SIZE_H_
