#include "cli/io/session.h"

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "cli/guessed_raw.h"
#include "cli/io/line_reader.h"
#include "cli/temporary_overlay.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/failure_reason.h"
#include "qcow2/overlap_guard.h"

namespace ringcow {
namespace {

std::string NotFlushed(const char* cache, const std::string& why) {
  return absl::StrFormat("Failed to flush the %s cache: %s", cache, why);
}

constexpr char kPrompt[] = "qemu-io> ";

// Says what is wrong with the number of arguments, if anything is.
bool HasRightCount(const IoCommand& command, size_t arguments) {
  const auto min = static_cast<size_t>(command.min_arguments);
  const auto max = static_cast<size_t>(command.max_arguments);
  if (arguments >= min && (command.max_arguments < 0 || arguments <= max)) return true;
  const std::string expected = command.max_arguments < 0 ? absl::StrCat("at least ", min)
                               : min == max              ? absl::StrCat(min)
                                            : absl::StrCat("between ", min, " and ", max);
  absl::FPrintF(stderr, "bad argument count %d to %s, expected %s arguments\n", arguments,
                command.name, expected);
  return false;
}

}  // namespace

Task<absl::Status> Session::Open(std::string name, TargetOptions options) {
  if (target_.has_value()) {
    co_return absl::FailedPreconditionError("file open already, try 'help close'");
  }
  const absl::Status status = co_await OpenTarget(name, options);
  if (!status.ok()) {
    const bool has_name = !name.empty() && !options.image_options;
    const std::string what = !has_name ? "can't open" : absl::StrCat("can't open device ", name);
    co_return absl::Status(status.code(), absl::StrCat(what, ": ", MessageOf(status)));
  }
  if (target().file().guessed_raw() && !options_.read_only) WarnAboutGuessedRaw(name_);
  co_return absl::OkStatus();
}

Task<absl::Status> Session::OpenTarget(std::string name, TargetOptions options) {
  absl::StatusOr<Target> target = options.temporary
                                      ? co_await OpenTemporaryOverlay(host_, name, options)
                                      : co_await Target::Open(host_, name, options);
  CO_RETURN_IF_ERROR(target.status());
  target_.emplace(*std::move(target));
  has_flushed_ = true;
  unguarded_.clear();
  name_ = std::move(name);
  options_ = std::move(options);
  co_return absl::OkStatus();
}

std::string Session::Explain(const absl::Status& status) {
  if (IsUnguarded(status)) unguarded_ = FailureReason(status);
  return FailureReason(status);
}

bool Session::HasFlushed(const absl::Status& status) {
  has_flushed_ = status.ok();
  return has_flushed_;
}

bool Session::Say(const absl::Status& status) const {
  if (!status.ok()) program_.Error(MessageOf(status));
  return status.ok();
}

Task<absl::Status> Session::Close() {
  (void)co_await in_background_.Join();  // each said itself how it ended
  if (!target_.has_value()) co_return absl::OkStatus();
  absl::Status flushed;
  const Image* const image = target_->chain().image();
  const bool has_data_file = image != nullptr && image->header().external_data();
  if (image != nullptr) flushed = co_await disk().Flush();
  const absl::Status status = co_await disk().Close();
  target_.reset();
  // QEMU's allocations are refused when their refcounts are written, too. It says so at once,
  // before what is still in the buffer of stdout.
  if (!unguarded_.empty()) {
    absl::FPrintF(stderr, "%s: %s\n", program_.name(), NotFlushed("refcount block", unguarded_));
  }
  // Marked as corrupt, which was told when it was met.
  if (WasTold(status) && ErrnoOf(status) == ENOMEDIUM) co_return absl::OkStatus();
  if (flushed.ok()) co_return status;
  // QEMU's caches know nothing of a data file.
  if (has_data_file && !has_flushed_) co_return absl::OkStatus();
  const std::string why = FailureReason(flushed);
  co_return absl::Status(flushed.code(),
                         absl::StrCat(NotFlushed("L2 table", why), "\n", program_.name(), ": ",
                                      NotFlushed("refcount block", why)));
}

Task<absl::Status> Session::Reopen(TargetOptions options) {
  const TargetOptions before = options_;
  const std::string name = name_;
  CO_RETURN_IF_ERROR(co_await Close());
  const absl::Status status = co_await OpenTarget(name, std::move(options));
  if (!status.ok()) CO_RETURN_IF_ERROR(co_await OpenTarget(name, before));
  co_return status;
}

Task<bool> Session::Execute(std::string line) {
  std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
  if (words.empty()) co_return true;
  const IoCommand* command = FindIoCommand(words[0]);
  if (command == nullptr) {
    absl::FPrintF(stderr, "command \"%s\" not found\n", words[0]);
    co_return false;
  }
  if (command->needs_image && !target_.has_value()) {
    absl::FPrintF(stderr, "no file open, try 'help open'\n");
    co_return false;
  }
  if (command->writes && options_.read_only) {
    program_.Error("Block node is read-only");
    co_return false;
  }
  if (!HasRightCount(*command, words.size() - 1)) co_return false;
  co_return co_await command->run(*this, std::move(words));
}

Task<bool> Session::ExecuteStdin() {
  LineReader lines(kPrompt);
  bool all_well = true;
  while (!quit_) {
    // Reading stdin stops the loop, so what runs in the background is handed over before.
    co_await loop().Yield();
    const std::optional<std::string> line = lines.Next();
    if (!line.has_value()) break;
    all_well &= co_await Execute(*line);
  }
  co_return all_well;
}

std::string Usage(const IoCommand& command) {
  return absl::StrCat(command.name, command.synopsis[0] == '\0' ? "" : " ", command.synopsis,
                      " -- ", command.summary);
}

std::vector<const IoCommand*> IoCommands() {
  return {&kAbort,   &kAioFlush, &kAioRead,   &kAioWrite,    &kAlloc,  &kBreak,  &kClose,
          &kDiscard, &kFlush,    &kHelp,      &kInfo,        &kLength, &kMap,    &kOpen,
          &kQuit,    &kRead,     &kReadV,     &kRemoveBreak, &kReopen, &kResume, &kSigraise,
          &kSleep,   &kTruncate, &kWaitBreak, &kWrite,       &kWriteV};
}

const IoCommand* FindIoCommand(const std::string& name) {
  for (const IoCommand* command : IoCommands()) {
    if (name == command->name || (command->alias != nullptr && name == command->alias)) {
      return command;
    }
  }
  return nullptr;
}

}  // namespace ringcow
