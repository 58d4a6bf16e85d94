#include "absl/strings/str_format.h"
#include "cli/image_info.h"
#include "cli/io/session.h"
#include "cli/sizes.h"

namespace ringcow {
namespace {

void PrintSize(const char* what, uint64_t bytes) {
  absl::PrintF("%s: %s\n", what, PreciseSize(static_cast<double>(bytes)));
}

// The image that is shown, also where a format above it makes something else of it.
const Image* ShownImage(const ImageChain& chain) {
  const ImageChain* shown = &chain;
  while (shown->image() == nullptr && shown->file().host().image() != nullptr) {
    shown = shown->file().host().image();
  }
  return shown->image();
}

Task<bool> RunInfo(Session& session, std::vector<std::string> /*words*/) {
  const ImageFile& file = session.target().file();
  const absl::StatusOr<ImageInfo> info = co_await ReadImageInfo(file);
  if (!info.ok()) {
    session.program().Error(MessageOf(info.status()));
    co_return false;
  }
  const Image* const image = ShownImage(session.target().chain());
  absl::PrintF("format name: %s\n", file.driver());
  // QEMU says both what format and what protocol it is.
  if (IsProtocol(file.driver())) absl::PrintF("format name: %s\n", file.driver());
  // What has no storage fails to tell more, and as in QEMU does so in silence.
  if (file.host().outermost_file() == nullptr) co_return false;
  PrintSize("cluster size", image == nullptr ? 0 : image->geometry().cluster_bytes());
  // The VM state lies behind what the guest's L1 entries map.
  PrintSize("vm state offset", image == nullptr ? 0
                                                : image->geometry().l1_entries() *
                                                      image->geometry().bytes_per_l2_table());
  if (info->header.has_value() && image != nullptr) {
    absl::PrintF("Format specific information:\n%s",
                 Json(FormatSpecificInfo(image->header(), info->bitmaps)).HumanLines(1));
  }
  co_return true;
}

}  // namespace

const IoCommand kInfo = {
    .name = "info",
    .alias = "i",
    .summary = "prints information about the current file",
    .run = RunInfo,
};

}  // namespace ringcow
