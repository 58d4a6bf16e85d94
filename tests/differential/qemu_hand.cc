#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/differential/hand.h"
#include "tests/support/qemu_options.h"
#include "tests/support/tools.h"

namespace ringcow {

void QemuHand::Create(const std::string& path, const CreateOptions& options,
                      const std::string& backing, const std::string& format) {
  std::vector<std::string> words = {"create", "-q", "-f", "qcow2", "-o", QemuOptions(options)};
  if (!backing.empty()) words.insert(words.end(), {"-b", backing, "-F", format});
  words.insert(words.end(), {path, absl::StrCat(options.virtual_size)});
  QemuImg(words);
}

void QemuHand::Do(const std::string& path, const Step& step) {
  switch (step.kind) {
    case Step::Kind::kRequests: {
      std::vector<std::string> commands;
      for (const GuestRequest& request : step.requests) commands.push_back(CommandOf(request));
      return QemuIo(path, commands);
    }
    case Step::Kind::kCopyOnRead:
      return QemuIo(path, {CommandOf(step.requests.front())}, {"-C"});
    case Step::Kind::kCreateSnapshot:
      return QemuImg({"snapshot", "-c", step.snapshot, path});
    case Step::Kind::kApplySnapshot:
      return QemuImg({"snapshot", "-a", step.snapshot, path});
    case Step::Kind::kDeleteSnapshot:
      return QemuImg({"snapshot", "-d", step.snapshot, path});
    case Step::Kind::kResize:
      return QemuImg({"resize", "-q", "-f", "qcow2", "--shrink", path, absl::StrCat(step.size)});
    case Step::Kind::kCommit:
      return QemuImg({"commit", "-q", "-f", "qcow2", path});
    default: {
      std::vector<std::string> words = {"bitmap", "-f", "qcow2"};
      const std::vector<std::string> options = BitmapOptions(step);
      words.insert(words.end(), options.begin(), options.end());
      words.insert(words.end(), {path, step.bitmap});
      return QemuImg(words);
    }
  }
}

}  // namespace ringcow
