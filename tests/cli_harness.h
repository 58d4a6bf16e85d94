#ifndef RINGCOW_TESTS_CLI_HARNESS_H_
#define RINGCOW_TESTS_CLI_HARNESS_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace ringcow {

// How a child process ended.
struct Outcome {
  int status = 0;  // the exit status; 128 + the signal's number when a signal ended it
  std::string out;
  std::string err;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};
std::ostream& operator<<(std::ostream& stream, const Outcome& outcome);

// An empty directory of its own, removed with everything in it.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory();

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }
  std::vector<std::string> List() const;  // the names in it, sorted

 private:
  std::string path_;
};

// Two implementations of the same tools.
enum class Maker { kRingcow, kQemu };

struct Run {
  Maker maker = Maker::kRingcow;
  // words[0] is "qemu-img" or "qemu-io" (what ringcow is called, too), or "ringcow".
  std::vector<std::string> words;
  std::string directory;  // it is started there
  std::string input = "";
  // Bytes that the child may write to a file (RLIMIT_FSIZE), 0: any number.
  uint64_t max_file_bytes = 0;
  bool obeys_permissions = false;      // also as root
  bool without_io_uring = false;       // io_uring_setup fails with EPERM
  bool without_locked_memory = false;  // RLIMIT_MEMLOCK is 0, also for root
};

// Runs the program to its end and takes everything it says. The test fails when it cannot be
// started, and when it is not done after a minute.
Outcome RunTool(const Run& run);

// The same command by both, in the same directory or in one for each.
Outcome Ringcow(const std::string& directory, std::vector<std::string> words,
                const std::string& input = "");
Outcome Qemu(const std::string& directory, std::vector<std::string> words,
             const std::string& input = "");

std::string ReadBytes(const std::string& path);
void WriteBytes(const std::string& path, const std::string& bytes);
bool Exists(const std::string& path);

// "1.234 MiB/sec", "00.12 sec" and the like replaced by letters: what differs between two runs.
std::string WithoutTimes(const std::string& text);

// The same commands by both, in a directory for each: what they say, but for times, and their exit
// statuses are the same.
class SideBySideTest : public testing::Test {
 protected:
  // By QEMU, in our directory.
  void Make(const std::vector<std::string>& words);
  void CopyToThem(const std::string& name);

  // What both did.
  Outcome ExpectSame(const std::vector<std::string>& words, const std::string& input = "");
  // qemu-io, with O_DIRECT.
  Outcome ExpectSameIo(const std::string& file, const std::vector<std::string>& commands);

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_CLI_HARNESS_H_
