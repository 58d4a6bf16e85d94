#ifndef RINGCOW_QCOW2_COMMIT_H_
#define RINGCOW_QCOW2_COMMIT_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "engine/loop.h"
#include "engine/task.h"
#include "qcow2/copy_loop.h"
#include "qcow2/guest_disk.h"
#include "qcow2/image.h"
#include "qcow2/image_chain.h"

namespace ringcow {

struct CommitOptions {
  // The layer that is written to, which the chain was told to open for that (also_writable): 1 is
  // the backing file of the image itself.
  size_t depth = 1;
  // Afterwards the image has nothing of its own, and reads as before. Only with depth 1: a layer in
  // between would show what it has instead.
  bool empties = true;
  uint64_t bytes_per_second = 0;  // that are written, at most; 0: as many as can be
  CopyProgress on_progress = nullptr;
};

// Writes to a backing file what the layers above it have, so that it reads as the image does. One
// that is shorter grows to the image's size; one that is longer keeps what is behind it.
//
// The backing file has everything, durably, before the image gives it up: after a failure or a
// crash the image reads as before, and the commit can be done once more. Snapshots of the image
// stay, but what they do not have themselves they read from the backing file, as it is now.
//
// FailedPrecondition where the chain has no such layer; CopyLoop's errors, and those of the disks.
// Nobody else may use the chain meanwhile.
Task<absl::Status> Commit(const ImageChain& chain, CommitOptions options);

// The same with layers that were opened one by one: `upper`, the image itself first, and the one
// that is written to. `emptied`, if there is one, is the image.
Task<absl::Status> CommitLayers(Loop& loop, std::vector<GuestDisk*> upper, GuestDisk& base,
                                Image* emptied, CopyProgress on_progress,
                                uint64_t bytes_per_second = 0);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_COMMIT_H_
