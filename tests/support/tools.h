#ifndef RINGCOW_TESTS_SUPPORT_TOOLS_H_
#define RINGCOW_TESTS_SUPPORT_TOOLS_H_

#include <string>
#include <vector>

namespace ringcow {

// A file in the test's directory, with a name of its own; removed at the end. It need not exist.
class TempFile {
 public:
  explicit TempFile(const std::string& suffix);
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  ~TempFile();

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// How a child process ended, and what it said (stdout and stderr together).
struct ToolResult {
  int status = -1;  // the exit status; 128 + the number of the signal that ended it
  std::string output;
};

// Runs words[0], found in PATH, with the other words as its arguments. Fails the test when it
// cannot be started: QEMU's tools are required, not optional. Ended after two minutes.
ToolResult RunTool(const std::vector<std::string>& words);

// QEMU's tools. The test fails, with what they said, unless they succeed.
void QemuImg(const std::vector<std::string>& arguments);
// Each command is one -c of qemu-io: "write -P 7 0 64k". Reads with -P that find other bytes fail.
void QemuIo(const std::string& path, const std::vector<std::string>& commands,
            const std::vector<std::string>& options = {});

// The exit status of `qemu-img check`: 0 clean, 2 corruptions, 3 leaks; and its words.
ToolResult QemuCheck(const std::string& path);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_TOOLS_H_
