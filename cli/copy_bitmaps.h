#ifndef RINGCOW_CLI_COPY_BITMAPS_H_
#define RINGCOW_CLI_COPY_BITMAPS_H_

#include "absl/status/status.h"
#include "cli/program.h"
#include "engine/task.h"
#include "qcow2/image_chain.h"

namespace ringcow {

// What becomes of bitmaps that are not up to date.
enum class BrokenBitmaps : uint8_t { kRefuse, kSkip };

bool CanHaveBitmaps(const ImageChain& chain);
// Whether the bitmaps of `source` can be copied; else why not, in QEMU's words.
Task<absl::Status> CheckBitmaps(const ImageChain& source, BrokenBitmaps broken);
// Copies them to `target`, which is open for writing and as large.
Task<absl::Status> CopyBitmaps(const Program& program, const ImageChain& source,
                               const ImageChain& target);

}  // namespace ringcow

#endif  // RINGCOW_CLI_COPY_BITMAPS_H_
