#include "cli/image_info.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/format/options.h"
#include "qcow2/read_header.h"
#include "qcow2/read_snapshots.h"

namespace ringcow {
namespace {

// Bitmaps count only with the autoclear bit: without it, something wrote to the image that did not
// know of them.
Task<absl::StatusOr<std::vector<BitmapDirectoryEntry>>> ReadBitmaps(Disk& disk,
                                                                    const Header& header) {
  std::vector<BitmapDirectoryEntry> none;
  if (!header.extensions.bitmaps.has_value()) co_return none;
  if ((header.autoclear_features & kAutoclearBitmaps) == 0) co_return none;
  CO_ASSIGN_OR_RETURN(const Geometry geometry, GeometryOf(header));
  CO_ASSIGN_OR_RETURN(const BitmapsExtension extension,
                      ParseBitmapsExtension(*header.extensions.bitmaps, geometry));
  const uint64_t begin = extension.directory_offset.value();
  if (begin > disk.size() || extension.directory_bytes > disk.size() - begin) {
    co_return absl::InvalidArgumentError("The bitmap directory reaches beyond the end of the file");
  }
  std::vector<std::byte> directory(extension.directory_bytes);
  CO_RETURN_IF_ERROR(co_await disk.Read(extension.directory_offset, directory, Content::kOther));
  co_return ParseBitmapDirectory(directory, extension.nb_bitmaps, geometry);
}

Json BitmapJson(const BitmapDirectoryEntry& bitmap) {
  Json::Array flags;
  if (bitmap.in_use) flags.emplace_back("in-use");
  if (bitmap.automatic) flags.emplace_back("auto");
  return Json(Json::Object{{"flags", Json(std::move(flags))},
                           {"name", Json(bitmap.name)},
                           {"granularity", Json(uint64_t{1} << bitmap.granularity_bits)}});
}

Json::Object EncryptionInfo(CryptMethod method) {
  return {{"format", Json(method == CryptMethod::kAes ? "aes" : "luks")}};
}

// What options are in JSON: numbers, flags, or text.
Json JsonOf(const std::string& value) {
  uint64_t number = 0;
  if (absl::SimpleAtoi(value, &number)) return Json(number);
  return value == "on" || value == "off" ? Json(value == "on") : Json(value);
}

// A blkdebug of which a name cannot tell all is named by its options.
void SetNames(const ImageFile& file, ImageInfo& info) {
  info.name = file.host().name();
  const BlkdebugDisk* const blkdebug = file.host().blkdebug();
  if (blkdebug == nullptr) return;
  info.blkdebug = info.name;
  const BlkdebugOptions& options = blkdebug->options();
  if (options.given.empty()) return;
  Json::Object node;
  for (const auto& [name, value] : options.given) node.emplace_back(name, JsonOf(value));
  node.emplace_back("image",
                    Json(Json::Object{{"driver", Json("file")}, {"filename", Json(info.path)}}));
  node.emplace_back("driver", Json("blkdebug"));
  if (!options.config.empty()) node.emplace_back("config", Json(options.config));
  const std::string format(FormatName(info.format));
  info.name = absl::StrCat(
      "json:",
      Json(Json::Object{{"driver", Json(format)}, {"file", Json(Json::Object(node))}}).Line());
  info.blkdebug = absl::StrCat("json:", Json(std::move(node)).Line());
}

}  // namespace

Task<absl::StatusOr<ImageInfo>> ReadImageInfo(const ImageFile& file) {
  Disk& disk = file.disk();
  struct stat status{};
  if (fstat(file.host().file().fd(), &status) != 0) {
    co_return ErrnoStatus(errno, absl::StrFormat("Could not stat '%s'", disk.name()));
  }
  constexpr uint64_t kBlockBytes = 512;  // of st_blocks, whatever the file system
  ImageInfo info = {
      .path = disk.name(),
      .name = disk.name(),
      .format = file.format(),
      .virtual_size = AlignUp(file.format_options().raw_window.BytesOf(disk.size()), kSectorBytes),
      .file_length = AlignUp(disk.size(), kSectorBytes),
      .disk_bytes = static_cast<uint64_t>(status.st_blocks) * kBlockBytes,
      .is_device = S_ISBLK(status.st_mode),
      .header = std::nullopt,
      .snapshots = {},
      .bitmaps = {}};
  SetNames(file, info);
  if (file.format() == ImageFormat::kQcow2) {
    CO_ASSIGN_OR_RETURN(const Header header, co_await ReadHeader(disk));
    info.header = header;
    info.virtual_size = AlignDown(header.virtual_size, kSectorBytes);
    if (header.nb_snapshots > 0) {
      CO_ASSIGN_OR_RETURN(info.snapshots, co_await ReadSnapshots(disk, header));
    }
    CO_ASSIGN_OR_RETURN(info.bitmaps, co_await ReadBitmaps(disk, header));
  }
  co_return info;
}

Json::Object FormatSpecificInfo(const Header& header,
                                const std::vector<BitmapDirectoryEntry>& bitmaps) {
  const bool version3 = header.version >= 3;
  Json::Object members;
  members.emplace_back("compat", Json(std::string(CompatName(header.version))));
  members.emplace_back("compression-type",
                       Json(std::string(CompressionTypeName(header.compression_type))));
  if (version3) members.emplace_back("lazy-refcounts", Json(header.lazy_refcounts()));
  if (!bitmaps.empty()) {
    Json::Array described;
    for (const BitmapDirectoryEntry& bitmap : bitmaps) described.push_back(BitmapJson(bitmap));
    members.emplace_back("bitmaps", Json(std::move(described)));
  }
  members.emplace_back("refcount-bits", Json(uint64_t{1} << header.refcount_order));
  if (header.crypt_method != CryptMethod::kNone) {
    members.emplace_back("encrypt", Json(EncryptionInfo(header.crypt_method)));
  }
  if (!version3) return members;
  if (header.extensions.external_data_file.has_value()) {
    members.emplace_back("data-file", Json(*header.extensions.external_data_file));
  }
  if ((header.incompatible_features & kIncompatibleExternalDataFile) != 0) {
    const bool raw = (header.autoclear_features & kAutoclearRawExternalData) != 0;
    members.emplace_back("data-file-raw", Json(raw));
  }
  members.emplace_back("corrupt", Json(header.corrupt()));
  members.emplace_back("extended-l2", Json(header.extended_l2()));
  return members;
}

}  // namespace ringcow
