// The seam to the host, and what runs on it.

#include "engine/aligned_buffer.h"
#include "engine/disk.h"
#include "engine/errno_status.h"
#include "engine/invariant.h"
#include "engine/loop.h"
#include "engine/mutex.h"
#include "engine/range_lock.h"
#include "engine/scope.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"
