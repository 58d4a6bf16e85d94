#include "tests/cli_harness.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr unsigned kTimeoutSeconds = 60;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string ProgramOf(const Run& run) {
  if (run.maker == Maker::kQemu) return "/usr/bin/" + run.words[0];
  return Environment("TEST_SRCDIR") + "/" + Environment("TEST_WORKSPACE") + "/cli/ringcow";
}

// Files for what a child reads and says, so that neither side waits for a full pipe.
class ChildFile {
 public:
  explicit ChildFile(const std::string& contents = "") : file_(std::tmpfile()) {
    if (std::fwrite(contents.data(), 1, contents.size(), file_) != contents.size()) {
      ADD_FAILURE() << "a temporary file could not be written";
    }
    EXPECT_EQ(std::fseek(file_, 0, SEEK_SET), 0);
  }
  ChildFile(const ChildFile&) = delete;
  ChildFile& operator=(const ChildFile&) = delete;
  ~ChildFile() { (void)std::fclose(file_); }

  int fd() const { return fileno(file_); }
  std::string Contents() const {
    std::string contents(static_cast<size_t>(lseek(fd(), 0, SEEK_END)), '\0');
    if (pread(fd(), contents.data(), contents.size(), 0) != static_cast<ssize_t>(contents.size())) {
      ADD_FAILURE() << "what a child said could not be read";
    }
    return contents;
  }

 private:
  std::FILE* const file_;
};

// Root's power over files does not survive the exec.
bool ObeyPermissions() {
  return geteuid() != 0 || (prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) == 0 &&
                            prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH, 0, 0, 0) == 0);
}

bool ForbidLockedMemory() {
  const rlimit none = {0, 0};
  return (geteuid() != 0 || prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0) == 0) &&
         setrlimit(RLIMIT_MEMLOCK, &none) == 0;
}

bool ForbidIoUring() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {std::size(filter), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

[[noreturn]] void BecomeChild(const Run& run, const std::string& program, int in, int out,
                              int err) {
  std::vector<char*> arguments;
  arguments.reserve(run.words.size() + 1);
  for (const std::string& word : run.words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const rlimit limit = {run.max_file_bytes, run.max_file_bytes};
  const bool ready = dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
                     dup2(err, STDERR_FILENO) >= 0 && chdir(run.directory.c_str()) == 0 &&
                     (run.max_file_bytes == 0 || setrlimit(RLIMIT_FSIZE, &limit) == 0) &&
                     (!run.obeys_permissions || ObeyPermissions()) &&
                     (!run.without_locked_memory || ForbidLockedMemory()) &&
                     (!run.without_io_uring || ForbidIoUring());
  // A write beyond RLIMIT_FSIZE is to fail, not to kill.
  (void)signal(SIGXFSZ, SIG_IGN);
  (void)alarm(kTimeoutSeconds);
  if (ready) execv(program.c_str(), arguments.data());
  _exit(127);
}

}  // namespace

std::ostream& operator<<(std::ostream& stream, const Outcome& outcome) {
  return stream << "status " << outcome.status << "\n--- stdout\n"
                << outcome.out << "--- stderr\n"
                << outcome.err << "---";
}

ScratchDirectory::ScratchDirectory() {
  std::string pattern = testing::TempDir() + "/cli.XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << pattern << ": " << strerror(errno);
  path_ = pattern;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;  // a leftover of a test is no failure of it
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> ScratchDirectory::List() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Outcome RunTool(const Run& run) {
  const std::string program = ProgramOf(run);
  const ChildFile in(run.input);
  const ChildFile out;
  const ChildFile err;
  const pid_t child = fork();
  if (child == 0) BecomeChild(run, program, in.fd(), out.fd(), err.fd());
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) {
    ADD_FAILURE() << program << ": " << strerror(errno);
    return {};
  }
  Outcome outcome = {.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
                     .out = out.Contents(),
                     .err = err.Contents()};
  EXPECT_NE(outcome.status, 127) << program << " could not be started";
  EXPECT_NE(outcome.status, 128 + SIGALRM) << program << " did not end";
  return outcome;
}

Outcome Ringcow(const std::string& directory, std::vector<std::string> words,
                const std::string& input) {
  return RunTool({.maker = Maker::kRingcow,
                  .words = std::move(words),
                  .directory = directory,
                  .input = input});
}

Outcome Qemu(const std::string& directory, std::vector<std::string> words,
             const std::string& input) {
  return RunTool(
      {.maker = Maker::kQemu, .words = std::move(words), .directory = directory, .input = input});
}

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  EXPECT_TRUE(file.good()) << path;
}

bool Exists(const std::string& path) { return std::filesystem::exists(path); }

std::string WithoutTimes(const std::string& text) {
  static const std::regex kRates(
      R"([0-9:.]+( sec)? \([0-9.]+ [KMGT]?i?B?(bytes)?/sec and [0-9.]+ ops/sec\))");
  static const std::regex kCommas(R"(,[0-9:.]+,[0-9.]+,[0-9.]+\n)");
  static const std::regex kSeconds(R"(completed in [0-9]+\.[0-9]{3} seconds)");
  std::string plain = std::regex_replace(text, kRates, "T sec (R)");
  plain = std::regex_replace(plain, kCommas, ",T,R,R\n");
  return std::regex_replace(plain, kSeconds, "completed in T seconds");
}

void SideBySideTest::Make(const std::vector<std::string>& words) {
  const Outcome outcome = Qemu(ours_.path(), words);
  ASSERT_EQ(outcome.status, 0) << outcome;
}

void SideBySideTest::CopyToThem(const std::string& name) {
  WriteBytes(theirs_.File(name), ReadBytes(ours_.File(name)));
}

Outcome SideBySideTest::ExpectSame(const std::vector<std::string>& words,
                                   const std::string& input) {
  Outcome ours = Ringcow(ours_.path(), words, input);
  Outcome theirs = Qemu(theirs_.path(), words, input);
  ours.out = WithoutTimes(ours.out);
  theirs.out = WithoutTimes(theirs.out);
  EXPECT_EQ(ours, theirs) << testing::PrintToString(words);
  return ours;
}

Outcome SideBySideTest::ExpectSameIo(const std::string& file,
                                     const std::vector<std::string>& commands) {
  std::vector<std::string> words = {"qemu-io", "-t", "none"};
  for (const std::string& command : commands) words.insert(words.end(), {"-c", command});
  words.push_back(file);
  return ExpectSame(words);
}

}  // namespace ringcow
