#ifndef RINGCOW_QCOW2_REBASE_H_
#define RINGCOW_QCOW2_REBASE_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/copy_loop.h"
#include "qcow2/guest_disk.h"
#include "qcow2/image_chain.h"

namespace ringcow {

struct RebaseOptions {
  GuestDisk* backing = nullptr;  // what is going to be behind the image; null: nothing
  // `backing` is this layer of the image's own chain, so that what comes from there need not be
  // looked at.
  std::optional<size_t> depth = std::nullopt;
  bool compresses = false;  // what is written
  CopyProgress on_progress = nullptr;
};

// Writes to the qcow2 image of `chain`, which is open for writing, what it reads from its backing
// files and would read otherwise from another one. It reads the same before, meanwhile and
// afterwards. Nothing is flushed. Errors in QEMU's words.
Task<absl::Status> PrepareRebase(const ImageChain& chain, RebaseOptions options);

// Names another backing file, or none (""), in the header of the image on `disk`, durably; that
// image is closed. Errors as UpdateHeader; InvalidArgument for a name that is too long, or where a
// raw data file must be all of the disk.
Task<absl::Status> ChangeBackingFile(Disk& disk, std::string name, std::string format);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REBASE_H_
