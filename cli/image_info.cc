#include "cli/image_info.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/node_name.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/format/image_format.h"
#include "qcow2/format/options.h"
#include "qcow2/image_chain.h"
#include "qcow2/image_source.h"
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

// What lies on another shows as much of it as it does not change.
ImageInfo Above(ImageInfo below, const std::string& driver, const NodeName& name) {
  ImageInfo info;
  info.path = below.path;
  info.name = name.Text();
  info.driver = driver;
  info.virtual_size = below.virtual_size;
  info.cluster_bytes = below.cluster_bytes;
  info.knows_dirt = below.knows_dirt;
  below.role = ChildOf(driver);
  if (below.role == "file") info.disk_bytes = below.disk_bytes;
  info.children.push_back(std::move(below));
  return info;
}

absl::StatusOr<ImageInfo> BottomInfo(const HostFile& host) {
  const ImageSource& source = host.source();
  ImageInfo info;
  info.path = host.path();
  info.name = NameOfFile(host, 0).Text();
  info.driver = source.bottom;
  info.is_protocol = true;
  info.disk_bytes = 0;
  if (source.nowhere.has_value()) {
    info.virtual_size = AlignUp(source.nowhere->bytes, kSectorBytes);
    info.knows_dirt = false;
    return info;
  }
  struct stat status{};
  if (fstat(host.file()->fd(), &status) != 0) {
    return ErrnoStatus(errno, absl::StrFormat("Could not stat '%s'", host.path()));
  }
  constexpr uint64_t kBlockBytes = 512;  // of st_blocks, whatever the file system
  info.virtual_size = AlignUp(host.file()->size(), kSectorBytes);
  info.disk_bytes = static_cast<uint64_t>(status.st_blocks) * kBlockBytes;
  return info;
}

Task<absl::StatusOr<ImageInfo>> FileInfo(const HostFile& host);

// As QEMU has them, the last child first.
// NOLINTNEXTLINE(misc-no-recursion): see FileInfo.
Task<absl::StatusOr<ImageInfo>> QuorumInfo(const HostFile& host) {
  ImageInfo info;
  info.name = NameOfFile(host, 0).Text();
  info.driver = host.source().bottom;
  info.knows_dirt = false;
  info.disk_bytes = 0;
  for (size_t i = host.children().size(); i-- > 0;) {
    CO_ASSIGN_OR_RETURN(ImageInfo child, co_await FileInfo(*host.children()[i]));
    child.role = absl::StrCat("children.", i);
    info.virtual_size = child.virtual_size;
    *info.disk_bytes += child.disk_bytes.value_or(0);
    info.children.push_back(std::move(child));
  }
  co_return info;
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as images lie in images, which is bounded.
Task<absl::StatusOr<ImageInfo>> FileInfo(const HostFile& host) {
  ImageInfo info;
  if (!host.children().empty()) {
    CO_ASSIGN_OR_RETURN(info, co_await QuorumInfo(host));
  } else if (host.image() != nullptr) {
    CO_ASSIGN_OR_RETURN(info, co_await ReadImageInfo(host.image()->file()));
  } else {
    CO_ASSIGN_OR_RETURN(info, BottomInfo(host));
  }
  const std::vector<DiskDriver>& drivers = host.source().below;
  for (size_t i = 0; i < drivers.size(); ++i) {
    info = Above(std::move(info), NameOfDriver(drivers[i]), NameOfFile(host, i + 1));
  }
  co_return info;
}

Task<absl::Status> ReadFormat(const ImageFile& file, ImageInfo& info) {
  const uint64_t bytes = file.format_options().raw_window.BytesOf(file.disk().size());
  info.virtual_size = AlignUp(bytes, kSectorBytes);
  if (file.format() != ImageFormat::kQcow2) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const Header header, co_await ReadHeader(file.disk()));
  info.header = header;
  info.cluster_bytes = header.cluster_bytes();
  info.knows_dirt = true;
  info.virtual_size = AlignDown(header.virtual_size, kSectorBytes);
  if (header.nb_snapshots > 0) {
    CO_ASSIGN_OR_RETURN(info.snapshots, co_await ReadSnapshots(file.disk(), header));
  }
  CO_ASSIGN_OR_RETURN(info.bitmaps, co_await ReadBitmaps(file.disk(), header));
  co_return absl::OkStatus();
}

}  // namespace

// NOLINTNEXTLINE(misc-no-recursion): see FileInfo.
Task<absl::StatusOr<ImageInfo>> ReadImageInfo(const ImageFile& file) {
  const ImageSource& source = file.host().source();
  CO_ASSIGN_OR_RETURN(ImageInfo info, co_await FileInfo(file.host()));
  if (!source.has_no_format) {
    info = Above(std::move(info), std::string(FormatName(file.format())), NameOfImage(file, 0));
    CO_RETURN_IF_ERROR(co_await ReadFormat(file, info));
  }
  for (size_t i = 0; i < source.above.size(); ++i) {
    info = Above(std::move(info), NameOfDriver(source.above[i]), NameOfImage(file, i + 1));
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
