#include "qcow2/commit.h"

#include <utility>

#include "engine/invariant.h"
#include "engine/status_macros.h"
#include "qcow2/copy_source.h"

namespace ringcow {

Task<absl::Status> Commit(const ImageChain& chain, CommitOptions options) {
  RINGCOW_INVARIANT(options.depth == 1 || !options.empties,
                    "an image is emptied only into its own backing file");
  if (options.depth == 0 || options.depth >= chain.layers().size()) {
    co_return absl::FailedPreconditionError("Image does not have such a backing file");
  }
  GuestDisk& base = *chain.layers()[options.depth].guest;
  if (base.size() < chain.size()) {
    CO_RETURN_IF_ERROR(co_await base.Resize(chain.size(), Preallocation::kOff));
  }
  const CopySource source(chain, options.depth);
  CopyLoop copy(chain.file().disk().loop(), source, base,
                {.min_zeroes = 0,
                 .zero_manner = ZeroManner::kMayUnmap,
                 .on_progress = std::move(options.on_progress)});
  CO_RETURN_IF_ERROR(co_await copy.Run());
  CO_RETURN_IF_ERROR(co_await base.Flush());
  if (!options.empties) co_return absl::OkStatus();
  co_return co_await chain.image()->Empty();
}

}  // namespace ringcow
