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
#include "qcow2/format/image_format.h"
#include "qcow2/format/snapshot_table.h"

namespace ringcow {

// What `info` tells about an image. It needs the header only, so it also serves for images whose
// guest data this build cannot read.
struct ImageInfo {
  std::string path;
  std::string name;  // what the image is opened by: `path`, or what names the blkdebug on it
  std::optional<std::string> blkdebug = std::nullopt;  // the name of that without the format
  ImageFormat format = ImageFormat::kRaw;
  uint64_t virtual_size = 0;  // bytes
  uint64_t file_length = 0;   // bytes, whole sectors
  uint64_t disk_bytes = 0;    // what the file takes on its file system
  bool is_device = false;
  std::optional<Header> header;  // qcow2 only
  std::vector<Snapshot> snapshots;
  std::vector<BitmapDirectoryEntry> bitmaps;
};

Task<absl::StatusOr<ImageInfo>> ReadImageInfo(const ImageFile& file);

// The members behind "Format specific information" of a qcow2 image.
Json::Object FormatSpecificInfo(const Header& header,
                                const std::vector<BitmapDirectoryEntry>& bitmaps);

}  // namespace ringcow

#endif  // RINGCOW_CLI_IMAGE_INFO_H_
