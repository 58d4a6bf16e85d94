#ifndef RINGCOW_QCOW2_RECLAIM_H_
#define RINGCOW_QCOW2_RECLAIM_H_

#include "absl/status/status.h"
#include "engine/task.h"
#include "qcow2/metadata.h"
#include "qcow2/refcounts.h"

namespace ringcow {

// Gives back, durably, what an image has reserved that was not closed and has a record of it (see
// ReserveRecord). Reads the L2 tables of the recorded range and nothing of the others. For an image
// that has just been opened for writing, with its tables loaded.
//
// Gives nothing back of a damaged image, where more may refer to clusters than can be told, nor
// where there are more than 512 MiB of L2 tables to be read. Errors are the disk's own.
Task<absl::Status> ReclaimReserve(Metadata& metadata, Refcounts& refcounts);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_RECLAIM_H_
