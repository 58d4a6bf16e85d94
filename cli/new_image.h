#ifndef RINGCOW_CLI_NEW_IMAGE_H_
#define RINGCOW_CLI_NEW_IMAGE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/create_options.h"
#include "cli/file_attributes.h"
#include "cli/target.h"
#include "engine/task.h"
#include "qcow2/format/image_format.h"
#include "qcow2/format/options.h"

namespace ringcow {

// What a new image with these options is to be like; or, in QEMU's words, why it cannot be.
absl::StatusOr<CreateOptions> CreateOptionsOf(ImageFormat format, const CreateOptionValues& values);

// Makes an image at `path`, in place of what was there; its data file gets the attributes too. When
// that fails, a new file is removed, and one that was there before is empty.
Task<absl::Status> CreateImageFile(Host& host, std::string path, ImageFormat format,
                                   CreateOptions options, FileAttributes attributes = {});

}  // namespace ringcow

#endif  // RINGCOW_CLI_NEW_IMAGE_H_
