#include "bench/host.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "bench/throw_away_directory.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

TEST(HostTest, FindsTheProcessorsName) {
  EXPECT_EQ(ProcessorName("processor\t: 0\nmodel\t\t: 85\nmodel name\t: A: fast one\nflags: x\n"
                          "processor\t: 1\nmodel name\t: another\n"),
            "A: fast one");
  EXPECT_EQ(ProcessorName("processor\t: 0\nBogoMIPS\t: 50.00\n"), "");
  EXPECT_EQ(ProcessorName(""), "");
}

TEST(HostTest, FindsTheFileSystemInMountinfo) {
  const std::string mountinfo =
      "22 27 0:20 / /proc rw,nosuid - proc proc rw\n"
      "27 1 8:1 / / rw,noatime shared:1 master:2 - ext4 /dev/sda1 rw\n"
      "30 27 8:11 / /mnt rw - xfs /dev/sda11 rw\n"
      "truncated line\n";
  EXPECT_EQ(FileSystemType(mountinfo, "8:1"), "ext4");
  EXPECT_EQ(FileSystemType(mountinfo, "8:11"), "xfs");
  EXPECT_EQ(FileSystemType(mountinfo, "0:20"), "proc");
  EXPECT_EQ(FileSystemType(mountinfo, "9:9"), "");
}

TEST(HostTest, DescribesThisOne) {
  const Host host = DescribeHost(testing::TempDir());
  EXPECT_EQ(host.kernel.rfind("Linux ", 0), 0U);
  EXPECT_GE(host.cpus, 1);
}

TEST(ThrowAwayDirectoryTest, IsGoneAtTheEnd) {
  std::string path;
  {
    const auto directory = ThrowAwayDirectory::Create(testing::TempDir());
    ASSERT_TRUE(directory.ok()) << directory.status();
    path = directory->path();
    std::filesystem::create_directory(directory->File("sub"));
    std::ofstream(directory->File("sub/file")) << "x";
    EXPECT_TRUE(std::filesystem::exists(directory->File("sub/file")));
  }
  EXPECT_FALSE(path.empty());
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(ThrowAwayDirectoryTest, SaysWhereItCouldNotBeMade) {
  const auto directory = ThrowAwayDirectory::Create("/no/such/place");
  EXPECT_EQ(directory.status().message(),
            "Could not make a directory in '/no/such/place': No such file or directory");
}

TEST(ThrowAwayDirectoryTest, IsGoneAfterASignal) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    std::array<int, 2> pipe_ends{};
    ASSERT_EQ(pipe(pipe_ends.data()), 0);
    const pid_t child = fork();
    if (child == 0) {
      const auto directory = ThrowAwayDirectory::Create(testing::TempDir());
      if (!directory.ok()) _exit(99);
      std::ofstream(directory->File("file")) << "x";
      const std::string& path = directory->path();
      if (write(pipe_ends[1], path.data(), path.size()) < 0) _exit(98);
      for (;;) pause();
    }
    std::array<char, 4096> path{};
    const ssize_t length = read(pipe_ends[0], path.data(), path.size());
    ASSERT_GT(length, 0);
    const std::string directory(path.data(), static_cast<size_t>(length));
    EXPECT_TRUE(std::filesystem::exists(directory));
    kill(child, signal);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 128 + signal);
    EXPECT_FALSE(std::filesystem::exists(directory));
    close(pipe_ends[0]);
    close(pipe_ends[1]);
  }
}

}  // namespace
}  // namespace ringcow
