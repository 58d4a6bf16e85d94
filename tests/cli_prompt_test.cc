// The prompt of `io` on a terminal: the test types what a person would, a line at a time, each when
// the prompt for it is there.

#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

constexpr char kPrompt[] = "qemu-io> ";
constexpr char kUp[] = "\x1b[A";
constexpr char kHome[] = "\x01";
constexpr char kDeleteToEnd[] = "\x0b";
constexpr char kEndOfInput[] = "\x04";

// `qemu-io a` on a terminal of its own.
class Terminal {
 public:
  explicit Terminal(const std::string& directory) {
    const std::string program = std::string(std::getenv("TEST_SRCDIR")) + "/" +
                                std::getenv("TEST_WORKSPACE") + "/cli/ringcow";
    child_ = forkpty(&fd_, nullptr, nullptr, nullptr);
    if (child_ != 0) return;
    (void)setenv("TERM", "vt100", 1);
    (void)setenv("HOME", directory.c_str(), 1);  // no ~/.editrc
    (void)alarm(60);
    if (chdir(directory.c_str()) == 0) {
      execl(program.c_str(), "qemu-io", "-f", "qcow2", "a", nullptr);
    }
    _exit(127);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() { (void)close(fd_); }

  void Type(const std::string& keys) {
    EXPECT_EQ(write(fd_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }

  // Until it appears, behind what was waited for before.
  void WaitFor(const std::string& text) {
    while (unseen_.find(text) == std::string::npos) {
      const std::string more = Read();
      ASSERT_FALSE(more.empty()) << "no '" << text << "', but: " << unseen_;
      unseen_ += more;
    }
    unseen_.erase(0, unseen_.find(text) + text.size());
  }

  // The child's exit status.
  int Wait() {
    while (!Read().empty()) {
    }
    int status = 0;
    EXPECT_EQ(waitpid(child_, &status, 0), child_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  // Something that was written on the terminal; nothing when nobody has it open any more.
  std::string Read() {
    char buffer[4096];
    const ssize_t got = read(fd_, buffer, sizeof(buffer));
    return got <= 0 ? "" : std::string(buffer, static_cast<size_t>(got));
  }

  int fd_ = -1;
  pid_t child_ = -1;
  std::string unseen_;
};

class PromptTest : public testing::Test {
 protected:
  void SetUp() override {
    Ringcow(directory_.path(), {"qemu-img", "create", "-q", "-f", "qcow2", "a", "64M"});
  }

  const ScratchDirectory directory_;
};

TEST_F(PromptTest, EditsLines) {
  Terminal terminal(directory_.path());
  terminal.WaitFor(kPrompt);
  terminal.Type(std::string("rite -P 7 0 64k") + kHome + "w\n");
  terminal.WaitFor("wrote 65536/65536");
  terminal.WaitFor(kPrompt);
  terminal.Type(std::string("nonsense") + kHome + kDeleteToEnd + "read -P 7 0 64k\n");
  terminal.WaitFor("read 65536/65536");
  terminal.WaitFor(kPrompt);
  terminal.Type("quit\n");
  EXPECT_EQ(terminal.Wait(), 0);
}

TEST_F(PromptTest, RemembersLines) {
  Terminal terminal(directory_.path());
  terminal.WaitFor(kPrompt);
  terminal.Type("length\n");
  terminal.WaitFor("64 MiB");
  terminal.WaitFor(kPrompt);
  terminal.Type("flush\n");
  terminal.WaitFor(kPrompt);
  terminal.Type(std::string(kUp) + kUp + "\n");
  terminal.WaitFor("64 MiB");
  terminal.WaitFor(kPrompt);
  // What ends the input does so only while the line is edited, which an earlier line shows.
  terminal.Type(kUp);
  terminal.WaitFor("length");
  terminal.Type(std::string(kHome) + kDeleteToEnd + kEndOfInput);
  EXPECT_EQ(terminal.Wait(), 0);
}

TEST_F(PromptTest, EndsByASignalAsAnyProgram) {
  Terminal terminal(directory_.path());
  terminal.WaitFor(kPrompt);
  terminal.Type("\x03");
  EXPECT_EQ(terminal.Wait(), 128 + SIGINT);
}

}  // namespace
}  // namespace ringcow
