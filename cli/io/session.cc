#include "cli/io/session.h"

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace ringcow {
namespace {

constexpr absl::string_view kPrompt = "qemu-io> ";

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

// One line of stdin without its end; nothing at the end of stdin.
std::optional<std::string> ReadLine() {
  char* line = nullptr;
  size_t capacity = 0;
  const ssize_t length = getline(&line, &capacity, stdin);
  const std::unique_ptr<char, decltype(&std::free)> owner(line, &std::free);
  if (length < 0) return std::nullopt;
  std::string text(line, static_cast<size_t>(length));
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

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
  if (command->writes && read_only_) {
    program_.Error("Block node is read-only");
    co_return false;
  }
  if (!HasRightCount(*command, words.size() - 1)) co_return false;
  co_return co_await command->run(*this, std::move(words));
}

Task<bool> Session::ExecuteStdin() {
  bool all_well = true;
  while (!quit_) {
    // Reading stdin stops the loop, so what runs in the background is handed over before.
    co_await loop().Yield();
    absl::PrintF("%s", kPrompt);
    (void)std::fflush(stdout);
    const std::optional<std::string> line = ReadLine();
    if (!line.has_value()) break;
    all_well &= co_await Execute(*line);
  }
  co_return all_well;
}

Task<absl::Status> Session::End() {
  (void)co_await in_background_.Join();  // each said itself how it ended
  if (!target_.has_value()) co_return absl::OkStatus();
  co_return co_await disk().Close();
}

std::string Usage(const IoCommand& command) {
  return absl::StrCat(command.name, command.synopsis[0] == '\0' ? "" : " ", command.synopsis,
                      " -- ", command.summary);
}

std::vector<const IoCommand*> IoCommands() {
  return {&kAioFlush, &kAioRead, &kAioWrite, &kFlush, &kHelp,  &kLength,
          &kQuit,     &kRead,    &kReadV,    &kWrite, &kWriteV};
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
