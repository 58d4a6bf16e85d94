#ifndef RINGCOW_QCOW2_HEADER_UPDATE_H_
#define RINGCOW_QCOW2_HEADER_UPDATE_H_

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/format/header.h"

namespace ringcow {

// Makes `changed`, with its extensions and backing file name, the header of the image on `disk`,
// durably, laid out as SerializeHeader does. Its cluster size is that of the image, and nobody else
// may write to the header meanwhile: an Image on the disk is closed.
//
// A disk writes sectors whole, and nothing larger. What is more than one sector is therefore first
// written behind everything that the old and the new header have; then the first sector points
// there; then the place of the new header is filled; then the first sector is the new header's.
// Each is durable before the next, so that a crash or a failure leaves the old header or the new
// one, in this or that place.
//
// OutOfRange where the header cluster has no room for that; then nothing has changed, but that a
// record of what was reserved (ReserveRecord), which a crash has left, may be gone.
Task<absl::Status> UpdateHeader(Disk& disk, Header changed);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_HEADER_UPDATE_H_
