#include "bench/subprocess.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr int kNoSuchProgram = 127;

// In the child, where only async-signal-safe calls are allowed.
[[noreturn]] void Exec(char* const* arguments, int output, pid_t parent) {
  // prctl arms the signal for deaths from now on only.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(kNoSuchProgram);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (input >= 0) dup2(input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execvp(arguments[0], arguments);
  _exit(kNoSuchProgram);
}

std::string ReadToEnd(int fd) {
  std::string text;
  std::array<char, 4096> chunk{};
  for (;;) {
    const ssize_t bytes = read(fd, chunk.data(), chunk.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return text;
    text.append(chunk.data(), static_cast<size_t>(bytes));
  }
}

absl::StatusOr<int> WaitFor(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return ErrnoStatus(errno, "Could not wait for a child process");
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

absl::StatusOr<SubprocessResult> RunSubprocess(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);

  std::array<int, 2> pipe_ends{};
  if (pipe2(pipe_ends.data(), O_CLOEXEC) != 0) return ErrnoStatus(errno, "Could not make a pipe");
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) Exec(arguments.data(), pipe_ends[1], parent);
  const int fork_error = errno;
  close(pipe_ends[1]);
  if (child < 0) {
    close(pipe_ends[0]);
    return ErrnoStatus(fork_error, absl::StrCat("Could not start '", command[0], "'"));
  }

  SubprocessResult result;
  result.output = ReadToEnd(pipe_ends[0]);
  close(pipe_ends[0]);
  ASSIGN_OR_RETURN(result.exit_code, WaitFor(child));
  if (result.exit_code == kNoSuchProgram) {
    return absl::NotFoundError(absl::StrCat("Could not run '", command[0], "'"));
  }
  return result;
}

}  // namespace ringcow
