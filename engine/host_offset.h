#ifndef RINGCOW_ENGINE_HOST_OFFSET_H_
#define RINGCOW_ENGINE_HOST_OFFSET_H_

#include "engine/strong_int.h"

namespace ringcow {

// A byte position in the host file or block device that holds an image.
using HostOffset = StrongInt<struct HostOffsetTag>;

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_HOST_OFFSET_H_
