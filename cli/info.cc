#include <cstdlib>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
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

Json Specific(const char* type, Json::Object data) {
  return Json(Json::Object{{"type", Json(type)}, {"data", Json(std::move(data))}});
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as drivers lie on drivers, which is bounded.
Json ImageJson(const ImageInfo& info) {
  // What is no qcow2 image has what one without anything special has.
  const Header header = info.header.value_or(Header());
  Json::Array children;
  for (const ImageInfo& child : info.children) {
    children.emplace_back(Json::Object{{"name", Json(child.role)}, {"info", ImageJson(child)}});
  }
  Json::Object members;
  members.emplace_back("children", Json(std::move(children)));
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
  if (info.cluster_bytes.has_value()) {
    members.emplace_back("cluster-size", Json(*info.cluster_bytes));
  }
  members.emplace_back("format", Json(info.driver));
  if (info.disk_bytes.has_value()) members.emplace_back("actual-size", Json(*info.disk_bytes));
  if (info.header.has_value()) {
    members.emplace_back("format-specific",
                         Specific("qcow2", FormatSpecificInfo(header, info.bitmaps)));
  } else if (info.is_protocol && info.knows_dirt) {
    members.emplace_back("format-specific", Specific("file", {}));
  }
  if (header.crypt_method != CryptMethod::kNone) members.emplace_back("encrypted", Json(true));
  if (!header.backing_file.empty()) {
    if (!IsLost(info.path, header.backing_file)) {
      members.emplace_back("full-backing-filename",
                           Json(FullBackingPath(info.path, header.backing_file)));
    }
    members.emplace_back("backing-filename", Json(header.backing_file));
  }
  if (info.knows_dirt) members.emplace_back("dirty-flag", Json(header.dirty()));
  return Json(std::move(members));
}

// Lines of an item each, all of them behind the same blanks.
class Lines {
 public:
  explicit Lines(int level) : level_(level), blanks_(4 * static_cast<size_t>(level), ' ') {}

  void Add(absl::string_view line) { absl::StrAppend(&text_, blanks_, line, "\n"); }
  void AddText(absl::string_view text) { absl::StrAppend(&text_, text); }
  int level() const { return level_; }
  std::string Take() { return std::move(text_); }

 private:
  const int level_;
  const std::string blanks_;
  std::string text_;
};

void AddQcow2Lines(const ImageInfo& info, const Header& header, Lines& lines) {
  if (header.dirty()) lines.Add("cleanly shut down: no");
  if (!header.backing_file.empty()) {
    const std::string full_path = FullBackingPath(info.path, header.backing_file);
    std::string where;
    if (IsLost(info.path, header.backing_file)) {
      where = " (cannot determine actual path)";
    } else if (full_path != header.backing_file) {
      where = absl::StrCat(" (actual path: ", full_path, ")");
    }
    lines.Add(absl::StrCat("backing file: ", header.backing_file, where));
    if (header.extensions.backing_format.has_value()) {
      lines.Add(absl::StrCat("backing file format: ", *header.extensions.backing_format));
    }
  }
  for (const std::string& line : SnapshotLines(info.snapshots)) lines.Add(line);
  lines.Add("Format specific information:");
  lines.AddText(Json(FormatSpecificInfo(header, info.bitmaps)).HumanLines(lines.level() + 1));
}

std::string ReadableSize(uint64_t bytes) {
  return absl::StrFormat("%s (%d bytes)", RoughSize(bytes), bytes);
}

// `node` is the way from the image to the child: "/file/image".
// NOLINTNEXTLINE(misc-no-recursion): as deep as drivers lie on drivers, which is bounded.
std::string HumanLines(const ImageInfo& info, const std::string& node, int level) {
  Lines lines(level);
  const bool is_bottom = info.is_protocol && level > 0;
  lines.Add(absl::StrCat(is_bottom ? "filename: " : "image: ", info.name));
  lines.Add(absl::StrCat(is_bottom ? "protocol type: " : "file format: ", info.driver));
  lines.Add(absl::StrCat(is_bottom ? "file length: " : "virtual size: ",
                         ReadableSize(info.virtual_size)));
  lines.Add(absl::StrCat(
      "disk size: ", info.disk_bytes.has_value() ? RoughSize(*info.disk_bytes) : "unavailable"));
  if (info.header.has_value() && info.header->crypt_method != CryptMethod::kNone) {
    lines.Add("encrypted: yes");
  }
  if (info.cluster_bytes.has_value()) {
    lines.Add(absl::StrCat("cluster_size: ", *info.cluster_bytes));
  }
  if (info.header.has_value()) AddQcow2Lines(info, *info.header, lines);
  for (const ImageInfo& child : info.children) {
    const std::string child_node = absl::StrCat(node, "/", child.role);
    lines.Add(absl::StrCat("Child node '", child_node, "':"));
    lines.AddText(HumanLines(child, child_node, level + 1));
  }
  return lines.Take();
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
    if (IsLost(infos.back().path, header->backing_file)) {
      co_return absl::FailedPreconditionError(absl::StrFormat(
          "Could not determine absolute backing filename, but backing filename '%s' present",
          header->backing_file));
    }
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
    absl::PrintF("%s", HumanLines(info, "", 0));
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
