#include "tests/support/tools.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr unsigned kTimeoutSeconds = 120;
constexpr int kCouldNotStart = 127;

[[noreturn]] void BecomeTool(const std::vector<std::string>& words, int output) {
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  (void)alarm(kTimeoutSeconds);
  if (dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0) {
    execvp(arguments[0], arguments.data());
  }
  _exit(kCouldNotStart);
}

std::string Contents(int fd) {
  std::string contents(static_cast<size_t>(lseek(fd, 0, SEEK_END)), '\0');
  const ssize_t length = pread(fd, contents.data(), contents.size(), 0);
  EXPECT_EQ(length, static_cast<ssize_t>(contents.size()));
  return contents;
}

}  // namespace

TempFile::TempFile(const std::string& suffix) {
  static int number = 0;
  path_ = absl::StrCat(testing::TempDir(), "/", getpid(), "-", ++number, suffix);
}

TempFile::~TempFile() { (void)unlink(path_.c_str()); }

ToolResult RunTool(const std::vector<std::string>& words) {
  std::FILE* const output = std::tmpfile();
  if (output == nullptr) {
    ADD_FAILURE() << "tmpfile: " << std::strerror(errno);
    return {};
  }
  const pid_t child = fork();
  if (child == 0) BecomeTool(words, fileno(output));
  ToolResult result;
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) {
    ADD_FAILURE() << words[0] << ": " << std::strerror(errno);
  } else {
    result.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    result.output = Contents(fileno(output));
    EXPECT_NE(result.status, kCouldNotStart) << words[0] << " could not be started";
  }
  (void)std::fclose(output);
  return result;
}

namespace {

void MustSucceed(const std::vector<std::string>& words) {
  const ToolResult result = RunTool(words);
  EXPECT_EQ(result.status, 0) << absl::StrJoin(words, " ") << "\n" << result.output;
  // qemu-io reports a mismatch and goes on.
  EXPECT_FALSE(absl::StrContains(result.output, "Pattern verification failed"))
      << absl::StrJoin(words, " ") << "\n"
      << result.output;
}

}  // namespace

void QemuImg(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"qemu-img"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  MustSucceed(words);
}

void QemuIo(const std::string& path, const std::vector<std::string>& commands,
            const std::vector<std::string>& options) {
  std::vector<std::string> words = {"qemu-io", "-f", "qcow2"};
  words.insert(words.end(), options.begin(), options.end());
  for (const std::string& command : commands) {
    words.emplace_back("-c");
    words.push_back(command);
  }
  words.push_back(path);
  MustSucceed(words);
}

ToolResult QemuCheck(const std::string& path) {
  return RunTool({"qemu-img", "check", "-f", "qcow2", path});
}

}  // namespace ringcow
