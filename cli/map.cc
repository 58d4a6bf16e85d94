#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/node_name.h"
#include "cli/output_format.h"
#include "cli/sizes.h"
#include "cli/target.h"
#include "engine/status_macros.h"
#include "qcow2/chain_extent.h"

namespace ringcow {
namespace {

enum LongOnly { kOutput = kFirstLongOnlyKey, kImageOptions, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'f', "format", "FMT", "the image's format; else it is guessed"},
    {'s', "start-offset", "OFFSET", "begin at this offset"},
    {'l', "max-length", "LENGTH", "look at so many bytes at most"},
    {kOutput, "output", "FORMAT", "human (default) or json"},
    {'U', "force-share", nullptr, "also when the image is in use elsewhere"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

struct Settings {
  std::string name;
  TargetOptions target;
  OutputFormat output = OutputFormat::kHuman;
  uint64_t begin = 0;
  std::optional<uint64_t> length;
};

// Neighbouring guest bytes that are alike.
struct Entry {
  uint64_t begin = 0;
  ChainExtent found;

  uint64_t bytes() const { return found.extent.bytes; }
};

bool Continues(const Entry& entry, const ChainExtent& next) {
  const GuestExtent& a = entry.found.extent;
  const GuestExtent& b = next.extent;
  return a.allocated == b.allocated && a.zero == b.zero && a.compressed == b.compressed &&
         a.hole == b.hole && entry.found.depth == next.depth &&
         a.host.has_value() == b.host.has_value() &&
         (!a.host.has_value() || *a.host + a.bytes == *b.host);
}

// Prints entries as they come.
class Printer {
 public:
  Printer(const ImageChain& chain, OutputFormat output) : chain_(chain), output_(output) {}

  void Begin() const {
    if (output_ == OutputFormat::kJson) {
      absl::PrintF("[");
    } else {
      absl::PrintF("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    }
  }
  absl::Status Print(const Entry& entry) {
    if (output_ == OutputFormat::kHuman) return PrintHuman(entry);
    PrintJson(entry);
    return absl::OkStatus();
  }
  void End() const {
    if (output_ == OutputFormat::kJson) absl::PrintF("]\n");
  }

 private:
  // Where the guest's bytes can be found as they are, and nothing else.
  absl::Status PrintHuman(const Entry& entry) const {
    if (!entry.found.is_data() || entry.bytes() == 0) return absl::OkStatus();
    const std::optional<HostOffset>& host = entry.found.extent.host;
    if (!host.has_value()) {
      return absl::UnimplementedError("File contains external, encrypted or compressed clusters.");
    }
    const ImageChain::Layer& layer = chain_.layers()[entry.found.depth];
    const HostFile& file = layer.data_file.has_value() ? *layer.data_file : layer.file.host();
    absl::PrintF("%-16s%-16s%-16s%s\n", absl::StrFormat("%#x", entry.begin),
                 absl::StrFormat("%#x", entry.bytes()), absl::StrFormat("%#x", host->value()),
                 NameOfFile(file).Text());
    return absl::OkStatus();
  }

  void PrintJson(const Entry& entry) {
    const GuestExtent& extent = entry.found.extent;
    const auto word = [](bool flag) { return flag ? "true" : "false"; };
    absl::PrintF(
        "%s{ \"start\": %d, \"length\": %d, \"depth\": %d, \"present\": %s, \"zero\": %s, "
        "\"data\": %s, \"compressed\": %s",
        is_first_ ? "" : ",\n", entry.begin, extent.bytes, entry.found.depth,
        word(extent.allocated), word(extent.zero), word(entry.found.is_data() || extent.hole),
        word(extent.compressed));
    if (extent.host.has_value()) absl::PrintF(", \"offset\": %d", extent.host->value());
    absl::PrintF("}");
    is_first_ = false;
  }

  const ImageChain& chain_;
  const OutputFormat output_;
  bool is_first_ = true;
};

Task<absl::Status> PrintMap(const ImageChain& chain, const Settings& settings) {
  Printer printer(chain, settings.output);
  printer.Begin();
  uint64_t end = chain.size();
  if (settings.length.has_value() && *settings.length < end - std::min(end, settings.begin)) {
    end = settings.begin + *settings.length;
  }
  Entry entry{.begin = settings.begin, .found = {.extent = {.allocated = false}}};
  for (uint64_t at = settings.begin; at < end;) {
    const absl::StatusOr<ChainExtent> next = co_await FindInChain(chain, GuestOffset(at), end - at);
    if (!next.ok()) {
      co_return absl::Status(next.status().code(), absl::StrCat("Could not read file metadata: ",
                                                                MessageOf(next.status())));
    }
    if (entry.bytes() > 0 && Continues(entry, *next)) {
      entry.found.extent.bytes += next->extent.bytes;
    } else {
      if (entry.bytes() > 0) CO_RETURN_IF_ERROR(printer.Print(entry));
      entry = {.begin = at, .found = *next};
    }
    at += next->extent.bytes;
  }
  CO_RETURN_IF_ERROR(printer.Print(entry));
  printer.End();
  co_return absl::OkStatus();
}

Task<absl::Status> OpenAndPrint(Host& host, const Settings& settings) {
  CO_ASSIGN_OR_RETURN(const Target target,
                      co_await OpenTarget(host, settings.name, settings.target));
  absl::Status status = co_await PrintMap(target.chain(), settings);
  status.Update(co_await target.guest().Close());
  co_return status;
}

absl::Status Map(const Settings& settings) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Host> host, Host::Create());
  return host->loop.Run(OpenAndPrint(*host, settings));
}

int RunMap(const Program& program, int argc, char** argv) {
  constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();
  Settings settings;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kMapCommand);
      case kImageOptions:
        settings.target.image_options = true;
        break;
      case 'f':
        settings.target.format = options.argument();
        break;
      case 's':
      case 'l': {
        const bool is_begin = *option == 's';
        const absl::StatusOr<uint64_t> value = ParseSizeInRange(
            is_begin ? "start offset" : "max length", options.argument(), 0, kMaxOffset);
        if (!value.ok()) return program.Fail(value.status());
        if (is_begin) {
          settings.begin = *value;
        } else {
          settings.length = *value;
        }
        break;
      }
      case kOutput: {
        const auto output = ParseOutputFormat(program, options.argument());
        if (!output.has_value()) return EXIT_FAILURE;
        settings.output = *output;
        break;
      }
      case 'U':
        settings.target.force_share = true;
        break;
      default:
        return EXIT_FAILURE;
    }
  }
  if (options.rest().size() != 1) return program.Misused("Expecting one image file name");
  settings.name = options.rest()[0];
  const absl::Status status = Map(settings);
  return status.ok() ? EXIT_SUCCESS : program.Fail(status);
}

}  // namespace

const Command kMapCommand = {
    .name = "map",
    .summary = "Show where an image and its backing files hold the guest's data",
    .arguments = "FILE",
    .options = kOptions,
    .run = RunMap,
};

}  // namespace ringcow
