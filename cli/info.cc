#include <cstdlib>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/image_info.h"
#include "cli/output_format.h"
#include "cli/sizes.h"
#include "cli/snapshot_list.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/backing_name.h"

namespace ringcow {
namespace {

enum LongOnly { kOutput = kFirstLongOnlyKey, kImageOptions, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {'U', "force-share", nullptr, "also when the image is in use elsewhere"},
    {kOutput, "output", "human|json", "what the output is like (default: human)"},
    {'b', "backing-chain", nullptr, "of all backing files, too"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;

Json SnapshotJson(const Snapshot& snapshot) {
  Json::Object members;
  if (snapshot.icount.has_value()) members.emplace_back("icount", Json(*snapshot.icount));
  members.emplace_back("vm-clock-nsec",
                       Json(snapshot.vm_clock_nanoseconds % kNanosecondsPerSecond));
  members.emplace_back("name", Json(snapshot.name.c_str()));
  members.emplace_back("date-sec", Json(snapshot.date_seconds));
  members.emplace_back("date-nsec", Json(snapshot.date_nanoseconds));
  members.emplace_back("vm-clock-sec", Json(snapshot.vm_clock_nanoseconds / kNanosecondsPerSecond));
  members.emplace_back("id", Json(snapshot.id.c_str()));
  members.emplace_back("vm-state-size", Json(snapshot.vm_state_bytes));
  return Json(std::move(members));
}

// The file below the format.
Json FileJson(const ImageInfo& info) {
  return Json(Json::Object{
      {"children", Json(Json::Array())},
      {"virtual-size", Json(info.file_length)},
      {"filename", Json(info.path)},
      {"format", Json(info.is_device ? "host_device" : "file")},
      {"actual-size", Json(info.disk_bytes)},
      {"format-specific",
       Json(Json::Object{{"type", Json("file")}, {"data", Json(Json::Object())}})},
      {"dirty-flag", Json(false)},
  });
}

Json BlkdebugJson(const ImageInfo& info, const std::string& name) {
  const Json::Object child = {{"name", Json("image")}, {"info", FileJson(info)}};
  return Json(Json::Object{
      {"children", Json(Json::Array{Json(child)})},
      {"virtual-size", Json(info.file_length)},
      {"filename", Json(name)},
      {"format", Json("blkdebug")},
      {"dirty-flag", Json(false)},
  });
}

Json Qcow2Json(const Header& header, const std::vector<BitmapDirectoryEntry>& bitmaps) {
  return Json(
      Json::Object{{"type", Json("qcow2")}, {"data", Json(FormatSpecificInfo(header, bitmaps))}});
}

Json ImageJson(const ImageInfo& info) {
  // A raw image has what a qcow2 image without anything special has.
  const Header header = info.header.value_or(Header());
  Json::Object members;
  const bool has_blkdebug = info.blkdebug.has_value();
  const Json::Object child = {
      {"name", Json("file")},
      {"info", info.blkdebug.has_value() ? BlkdebugJson(info, *info.blkdebug) : FileJson(info)}};
  members.emplace_back("children", Json(Json::Array{Json(child)}));
  const std::optional<std::string>& backing_format = header.extensions.backing_format;
  if (!header.backing_file.empty() && backing_format.has_value()) {
    members.emplace_back("backing-filename-format", Json(*backing_format));
  }
  if (!info.snapshots.empty()) {
    Json::Array snapshots;
    for (const Snapshot& snapshot : info.snapshots) snapshots.push_back(SnapshotJson(snapshot));
    members.emplace_back("snapshots", Json(std::move(snapshots)));
  }
  members.emplace_back("virtual-size", Json(info.virtual_size));
  members.emplace_back("filename", Json(info.name));
  if (info.header.has_value()) members.emplace_back("cluster-size", Json(header.cluster_bytes()));
  members.emplace_back("format", Json(std::string(FormatName(info.format))));
  if (!has_blkdebug) members.emplace_back("actual-size", Json(info.disk_bytes));
  if (info.header.has_value()) {
    members.emplace_back("format-specific", Qcow2Json(header, info.bitmaps));
  }
  if (header.crypt_method != CryptMethod::kNone) members.emplace_back("encrypted", Json(true));
  if (!header.backing_file.empty()) {
    members.emplace_back("full-backing-filename",
                         Json(FullBackingPath(info.path, header.backing_file)));
    members.emplace_back("backing-filename", Json(header.backing_file));
  }
  members.emplace_back("dirty-flag", Json(header.dirty()));
  return Json(std::move(members));
}

void PrintQcow2Lines(const ImageInfo& info, const Header& header) {
  if (header.crypt_method != CryptMethod::kNone) absl::PrintF("encrypted: yes\n");
  absl::PrintF("cluster_size: %d\n", header.cluster_bytes());
  if (header.dirty()) absl::PrintF("cleanly shut down: no\n");
  if (!header.backing_file.empty()) {
    const std::string full_path = FullBackingPath(info.path, header.backing_file);
    absl::PrintF("backing file: %s", header.backing_file);
    if (full_path != header.backing_file) absl::PrintF(" (actual path: %s)", full_path);
    absl::PrintF("\n");
    if (header.extensions.backing_format.has_value()) {
      absl::PrintF("backing file format: %s\n", *header.extensions.backing_format);
    }
  }
  PrintSnapshots(info.snapshots);
  absl::PrintF("Format specific information:\n%s",
               Json(FormatSpecificInfo(header, info.bitmaps)).HumanLines(1));
}

std::string ReadableSize(uint64_t bytes) {
  return absl::StrFormat("%s (%d bytes)", RoughSize(bytes), bytes);
}

// What lies below the format, as many levels of indentation deep.
void PrintFile(const ImageInfo& info, absl::string_view node, const std::string& indent) {
  absl::PrintF(
      "%1$sChild node '%2$s':\n%1$s    filename: %3$s\n%1$s    protocol type: %4$s\n"
      "%1$s    file length: %5$s\n%1$s    disk size: %6$s\n",
      indent, node, info.path, info.is_device ? "host_device" : "file",
      ReadableSize(info.file_length), RoughSize(info.disk_bytes));
}

void PrintHuman(const ImageInfo& info) {
  absl::PrintF("image: %s\nfile format: %s\nvirtual size: %s\ndisk size: %s\n", info.name,
               FormatName(info.format), ReadableSize(info.virtual_size),
               info.blkdebug.has_value() ? "unavailable" : RoughSize(info.disk_bytes));
  if (info.header.has_value()) PrintQcow2Lines(info, *info.header);
  if (!info.blkdebug.has_value()) {
    PrintFile(info, "/file", "");
    return;
  }
  absl::PrintF(
      "Child node '/file':\n    image: %s\n    file format: blkdebug\n    virtual size: %s\n"
      "    disk size: unavailable\n",
      *info.blkdebug, ReadableSize(info.file_length));
  PrintFile(info, "/file/image", "    ");
}

struct Settings {
  std::string name;
  TargetOptions target;
  bool whole_chain = false;
};

Task<absl::StatusOr<ImageInfo>> OpenAndRead(Host& host, std::string name, TargetOptions options) {
  absl::StatusOr<ImageFile> file = co_await OpenImageFile(host, name, options);
  absl::StatusOr<ImageInfo> info = file.ok() ? co_await ReadImageInfo(*file) : file.status();
  if (!info.ok()) co_return CouldNotOpen(name, options, info.status());
  co_return info;
}

// The image, and with it all that are behind it, if they are asked for.
Task<absl::StatusOr<std::vector<ImageInfo>>> ReadInfos(Host& host, const Settings& settings) {
  std::vector<ImageInfo> infos;
  std::set<std::string> names;
  std::string name = settings.name;
  TargetOptions options = settings.target;
  while (true) {
    if (!names.insert(name).second) {
      co_return absl::InvalidArgumentError(
          absl::StrFormat("Backing file '%s' creates an infinite loop.", name));
    }
    CO_ASSIGN_OR_RETURN(ImageInfo info, co_await OpenAndRead(host, name, options));
    infos.push_back(std::move(info));
    const std::optional<Header>& header = infos.back().header;
    const bool has_more = header.has_value() && !header->backing_file.empty();
    if (!settings.whole_chain || !has_more) co_return infos;
    name = FullBackingPath(infos.back().path, header->backing_file);
    options.image_options = false;
    options.format = header->extensions.backing_format.value_or("");
  }
}

absl::StatusOr<std::vector<ImageInfo>> Read(const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(ReadInfos(*host, settings));
}

void Print(const std::vector<ImageInfo>& infos, OutputFormat output, bool as_chain) {
  if (output == OutputFormat::kJson) {
    Json::Array images;
    for (const ImageInfo& info : infos) images.push_back(ImageJson(info));
    absl::PrintF("%s\n", as_chain ? Json(std::move(images)).Pretty() : images.front().Pretty());
    return;
  }
  for (const ImageInfo& info : infos) {
    if (&info != &infos.front()) absl::PrintF("\n");
    PrintHuman(info);
  }
}

int RunInfo(const Program& program, int argc, char** argv) {
  Settings settings;
  std::optional<OutputFormat> output = OutputFormat::kHuman;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kInfoCommand);
      case kImageOptions:
        settings.target.image_options = true;
        break;
      case 'f':
        settings.target.format = options.argument();
        break;
      case 'b':
        settings.whole_chain = true;
        break;
      case 'U':
        settings.target.force_share = true;
        break;
      case kOutput:
        output = ParseOutputFormat(program, options.argument());
        if (!output.has_value()) return EXIT_FAILURE;
        break;
      default:
        return EXIT_FAILURE;
    }
  }
  if (options.rest().size() != 1) return program.Misused("Expecting one image file name");
  settings.name = options.rest()[0];
  const absl::StatusOr<std::vector<ImageInfo>> infos = Read(settings);
  if (!infos.ok()) return program.Fail(infos.status());
  Print(*infos, *output, settings.whole_chain);
  return EXIT_SUCCESS;
}

}  // namespace

const Command kInfoCommand = {
    .name = "info",
    .summary = "Show what an image is like",
    .arguments = "FILE",
    .options = kOptions,
    .run = RunInfo,
};

}  // namespace ringcow
