#ifndef RINGCOW_CLI_IMAGE_INFO_H_
#define RINGCOW_CLI_IMAGE_INFO_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/json.h"
#include "cli/target.h"
#include "engine/task.h"
#include "qcow2/format/bitmap_directory.h"
#include "qcow2/format/header.h"
#include "qcow2/format/snapshot_table.h"

namespace ringcow {

// What `info` tells about an image. It needs the header only, so it also serves for images whose
// guest data this build cannot read.
struct ImageInfo {
  std::string role = {};      // what whoever lies on it calls it: "file", "image"
  std::string path = {};      // of the local file in which all of it is; empty: there is none
  std::string name = {};      // what it is opened by
  std::string driver = {};    // "qcow2", "file", "blkdebug"
  bool is_protocol = false;   // it is where bytes come from: a file, or nowhere
  uint64_t virtual_size = 0;  // bytes, whole sectors
  std::optional<uint64_t> disk_bytes = std::nullopt;     // what it takes on its file system
  std::optional<uint64_t> cluster_bytes = std::nullopt;  // of the image that it shows
  bool knows_dirt = true;  // what has no storage does not tell whether it is dirty
  std::optional<Header> header = std::nullopt;  // qcow2 only
  std::vector<Snapshot> snapshots = {};
  std::vector<BitmapDirectoryEntry> bitmaps = {};
  std::vector<ImageInfo> children = {};  // what it lies on
};

// Of the image, and of what lies on it.
Task<absl::StatusOr<ImageInfo>> ReadImageInfo(const ImageFile& file);

// The members behind "Format specific information" of a qcow2 image.
Json::Object FormatSpecificInfo(const Header& header,
                                const std::vector<BitmapDirectoryEntry>& bitmaps);

}  // namespace ringcow

#endif  // RINGCOW_CLI_IMAGE_INFO_H_
