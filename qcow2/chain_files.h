#ifndef RINGCOW_QCOW2_CHAIN_FILES_H_
#define RINGCOW_QCOW2_CHAIN_FILES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/rings.h"
#include "engine/task.h"
#include "qcow2/host_file.h"
#include "qcow2/image_file.h"
#include "qcow2/image_source.h"

namespace ringcow {

// Longer chains are refused, as what a loop through links and renames could look like.
inline constexpr size_t kMaxLayersOfChain = 200;

// What a description says of an image's caches; 0: nothing.
struct CacheBytes {
  uint64_t l2 = 0;
  uint64_t refcounts = 0;
};

// The files of one image of a chain.
struct ChainFiles {
  ImageFile file;
  std::optional<HostFile> data_file = std::nullopt;  // the external one, if it has one
  CacheBytes caches = {};
};

struct ChainFilesOptions {
  ImageFileOptions file;  // of the image itself; its backing files are opened for reading
  // The backing file this far down is opened for writing, too.
  std::optional<size_t> also_writable = std::nullopt;
  bool without_backing = false;  // the image alone
  // Nothing but to check the image, or to repair it: its header may be damaged as
  // HeaderChecks::kForRepair says, what it needs may be unsupported, and the chain ends before a
  // backing file of a kind that only QEMU knows.
  bool for_check = false;
};

// The image itself first, then its backing files. Of the images no more is read than the headers.
// Errors are those of ImageFile::Open, and what a header, or a description that does not fit it,
// makes impossible, at the depth of that file.
Task<absl::StatusOr<std::vector<ChainFiles>>> OpenChainFiles(Rings& rings, ImageSource source,
                                                             ChainFilesOptions chain);
// Both, also behind a failure, which is the first one.
Task<absl::Status> CloseChainFiles(ChainFiles& files);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHAIN_FILES_H_
