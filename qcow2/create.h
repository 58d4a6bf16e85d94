#ifndef RINGCOW_QCOW2_CREATE_H_
#define RINGCOW_QCOW2_CREATE_H_

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/format/options.h"

namespace ringcow {

// Makes `disk` a fresh qcow2 image, laid out byte for byte as QEMU lays it out (header, refcount
// table, refcount block, L1 table, then what the preallocation asks for), durable when the task
// ends. A file is truncated first; a block device must be large enough and keeps what lies behind
// the image. After a failure its contents are not an image.
//
// `data_file` is given if the options name one: it becomes the external data file, empties first
// and is then as long as the virtual disk.
//
// InvalidArgument and OutOfRange for options that cannot be (see ValidateCreateOptions), else the
// disk's errors.
Task<absl::Status> CreateImage(Disk& disk, CreateOptions options, Disk* data_file = nullptr);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CREATE_H_
