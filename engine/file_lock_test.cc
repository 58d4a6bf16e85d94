#include "engine/file_lock.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "engine/file_descriptor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

using ::testing::HasSubstr;

// A qemu-io that has an image open, waiting for commands; QEMU's tools are the oracle here.
class QemuIo {
 public:
  explicit QemuIo(std::vector<std::string> arguments) {
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    EXPECT_EQ(pipe2(in.data(), O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(out.data(), O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      dup2(out[1], STDERR_FILENO);
      arguments.insert(arguments.begin(), "qemu-io");
      std::vector<char*> argv;
      argv.reserve(arguments.size() + 1);
      for (std::string& argument : arguments) argv.push_back(argument.data());
      argv.push_back(nullptr);
      execvp("qemu-io", argv.data());
      std::perror("qemu-io");
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    commands_ = FileDescriptor(in[1]);
    output_ = FileDescriptor(out[0]);
    // It answers once the image is open, or ends with an error: a dead one cannot be written to.
    signal(SIGPIPE, SIG_IGN);
    (void)!write(commands_.get(), "length\n", 7);
    while (!absl::StrContains(said_, "64 MiB") && ReadMore()) {
    }
  }
  ~QemuIo() { (void)Quit(); }

  bool has_image() const { return absl::StrContains(said_, "64 MiB"); }

  // All that it said.
  const std::string& Quit() {
    commands_ = FileDescriptor();
    while (ReadMore()) {
    }
    if (pid_ > 0) waitpid(std::exchange(pid_, -1), nullptr, 0);
    return said_;
  }

 private:
  bool ReadMore() {
    std::array<char, 4096> buffer{};
    const ssize_t bytes = read(output_.get(), buffer.data(), buffer.size());
    if (bytes > 0) said_.append(buffer.data(), static_cast<size_t>(bytes));
    return bytes > 0;
  }

  pid_t pid_ = -1;
  FileDescriptor commands_;
  FileDescriptor output_;
  std::string said_;
};

class FileLockTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/" +
            testing::UnitTest::GetInstance()->current_test_info()->name() + ".qcow2";
    const std::string create = "qemu-img create -q -f qcow2 " + path_ + " 64M";
    ASSERT_EQ(std::system(create.c_str()), 0) << create;
  }
  void TearDown() override { unlink(path_.c_str()); }

  // Holds its locks as long as it lives.
  FileDescriptor Open() const {
    FileDescriptor fd(open(path_.c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_GE(fd.get(), 0);
    return fd;
  }
  absl::Status TryLock(LockMode mode) const { return LockImageFile(Open().get(), mode, path_); }

  std::string path_;
};

TEST_F(FileLockTest, AWriterIsAloneAndReadersAreNot) {
  const FileDescriptor first = Open();
  ASSERT_EQ(LockImageFile(first.get(), LockMode::kReader, path_), absl::OkStatus());
  EXPECT_EQ(TryLock(LockMode::kReader), absl::OkStatus());
  EXPECT_EQ(TryLock(LockMode::kWriter).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(TryLock(LockMode::kNone), absl::OkStatus());
}

TEST_F(FileLockTest, LocksGoWithTheirOwnDescriptor) {
  {
    const FileDescriptor writer = Open();
    ASSERT_EQ(LockImageFile(writer.get(), LockMode::kWriter, path_), absl::OkStatus());
    {
      const FileDescriptor other = Open();
    }
    EXPECT_EQ(TryLock(LockMode::kReader).code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(TryLock(LockMode::kWriter), absl::OkStatus());
}

// Whoever is refused is refused in the same words by QEMU and by us.
TEST_F(FileLockTest, QemuWritingRefusesUs) {
  const QemuIo holder({"-f", "qcow2", path_});
  ASSERT_TRUE(holder.has_image());

  const absl::Status writer = TryLock(LockMode::kWriter);
  EXPECT_EQ(writer.message(), absl::string_view("Failed to get \"write\" lock\n"
                                                "Is another process using the image [" +
                                                path_ + "]?"));
  EXPECT_THAT(QemuIo({"-f", "qcow2", path_}).Quit(), HasSubstr(std::string(writer.message())));

  const absl::Status reader = TryLock(LockMode::kReader);
  EXPECT_EQ(reader.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(QemuIo({"-r", "-f", "qcow2", path_}).Quit(),
              HasSubstr(std::string(reader.message())));

  EXPECT_EQ(TryLock(LockMode::kNone), absl::OkStatus());
}

TEST_F(FileLockTest, OurWritingRefusesQemu) {
  const FileDescriptor writer = Open();
  ASSERT_EQ(LockImageFile(writer.get(), LockMode::kWriter, path_), absl::OkStatus());
  QemuIo second_writer({"-f", "qcow2", path_});
  EXPECT_FALSE(second_writer.has_image());
  EXPECT_THAT(second_writer.Quit(), HasSubstr(std::string(TryLock(LockMode::kWriter).message())));
  QemuIo reader({"-r", "-f", "qcow2", path_});
  EXPECT_FALSE(reader.has_image());
  EXPECT_THAT(reader.Quit(), HasSubstr(std::string(TryLock(LockMode::kReader).message())));
  EXPECT_TRUE(QemuIo({"-r", "-U", "-f", "qcow2", path_}).has_image());
}

TEST_F(FileLockTest, UnlockingDoesNotWaitForTheLastReferenceToTheFile) {
  const FileDescriptor writer = Open();
  const FileDescriptor other_reference(dup(writer.get()));
  ASSERT_EQ(LockImageFile(writer.get(), LockMode::kWriter, path_), absl::OkStatus());
  EXPECT_EQ(TryLock(LockMode::kReader).code(), absl::StatusCode::kUnavailable);
  UnlockImageFile(writer.get());
  EXPECT_EQ(TryLock(LockMode::kWriter), absl::OkStatus());
  EXPECT_TRUE(QemuIo({"-f", "qcow2", path_}).has_image());
}

TEST_F(FileLockTest, QemuReadingRefusesOurWritingOnly) {
  const QemuIo holder({"-r", "-f", "qcow2", path_});
  ASSERT_TRUE(holder.has_image());
  EXPECT_EQ(TryLock(LockMode::kWriter).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(TryLock(LockMode::kReader), absl::OkStatus());
}

TEST_F(FileLockTest, OurReadingRefusesQemuWritingOnly) {
  const FileDescriptor reader = Open();
  ASSERT_EQ(LockImageFile(reader.get(), LockMode::kReader, path_), absl::OkStatus());
  EXPECT_FALSE(QemuIo({"-f", "qcow2", path_}).has_image());
  EXPECT_TRUE(QemuIo({"-r", "-f", "qcow2", path_}).has_image());
}

}  // namespace
}  // namespace ringcow
