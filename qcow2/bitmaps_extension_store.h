#ifndef RINGCOW_QCOW2_BITMAPS_EXTENSION_STORE_H_
#define RINGCOW_QCOW2_BITMAPS_EXTENSION_STORE_H_

#include <optional>

#include "absl/status/status.h"
#include "engine/task.h"
#include "qcow2/format/bitmap_directory.h"
#include "qcow2/metadata.h"

namespace ringcow {

// Makes the header say that the image's bitmap directory is where `extension` says, or that there
// is none, durably. What is there is durable before.
//
// A disk writes sectors whole, and nothing larger. So the header changes step by step, each durable
// before the next and none torn: where the extension lies in one sector, the old directory becomes
// the new one at once; else the bit that vouches for it is cleared meanwhile. A crash leaves the
// old state, the new one, or an image whose bitmaps do not count.
//
// OutOfRange when the header has no room for the extension; then nothing has changed.
Task<absl::Status> StoreBitmapsExtension(Metadata& metadata,
                                         std::optional<BitmapsExtension> extension);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BITMAPS_EXTENSION_STORE_H_
