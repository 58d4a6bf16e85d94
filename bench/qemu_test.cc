#include "bench/qemu.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>

#include "bench/subprocess.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

Workload Scattered() {
  Workload workload;
  workload.pattern = Workload::Pattern::kScattered;
  workload.image_bytes = uint64_t{32} * kBenchClusterBytes;
  workload.requests = 40;  // more than one round
  return workload;
}

TEST(QemuTest, ParsesItsVersion) {
  EXPECT_EQ(ParseQemuVersion("qemu-img version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"),
            "10.0.2");
  EXPECT_EQ(ParseQemuVersion("qemu-img version 7.2.0\nCopyright"), "7.2.0");
  EXPECT_EQ(ParseQemuVersion("sh: qemu-img: not found\n"), std::nullopt);
  EXPECT_EQ(ParseQemuVersion(""), std::nullopt);
}

TEST(QemuTest, ParsesItsTime) {
  EXPECT_EQ(ParseQemuBenchSeconds("Sending 1000 write requests, 4096 bytes each, 32 in parallel "
                                  "(starting at offset 0, step size 65536)\n"
                                  "Sending flush every 64 requests\n"
                                  "Run completed in 1.122 seconds.\n"),
            1.122);
  EXPECT_EQ(ParseQemuBenchSeconds("Run completed in no time.\n"), std::nullopt);
  EXPECT_EQ(ParseQemuBenchSeconds("Run completed in 1.1"), std::nullopt);
  EXPECT_EQ(ParseQemuBenchSeconds("qemu-img: Failed request: Input/output error\n"), std::nullopt);
}

TEST(QemuTest, CreatesOverlaysBesideTheirBackingFile) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(QemuCreateCommand("d/x", Scattered()),
            (Words{"qemu-img", "create", "-q", "-f", "qcow2", "d/x", "2097152"}));
  Workload overlay = Scattered();
  overlay.start = Workload::Start::kOverlay;
  overlay.base = Workload::Base::kQcow2;
  overlay.extended_l2 = true;
  EXPECT_EQ(QemuCreateCommand("d/x", overlay),
            (Words{"qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", "-b",
                   "base.qcow2", "-F", "qcow2", "d/x", "2097152"}));
}

TEST(QemuTest, KnowsWhatItsBenchmarkCannotDo) {
  EXPECT_TRUE(QemuCanExpress(Scattered(), 64, 0));
  EXPECT_TRUE(QemuCanExpress(Scattered(), 1, 1));
  EXPECT_TRUE(QemuCanExpress(Scattered(), 64, 64));
  EXPECT_FALSE(QemuCanExpress(Scattered(), 2, 1));
  Workload mix = Scattered();
  mix.pattern = Workload::Pattern::kInstallMix;
  EXPECT_FALSE(QemuCanExpress(mix, 1, 0));
}

// The places of the first `count` requests, as found on a raw file afterwards.
std::set<uint64_t> PlacesWritten(const Workload& workload, uint64_t count) {
  const std::string path = testing::TempDir() + "/places.raw";
  std::ofstream(path, std::ios::trunc).close();
  EXPECT_EQ(truncate(path.c_str(), static_cast<off_t>(workload.image_bytes)), 0);
  QemuImg::BenchOptions options;
  options.requests = count;
  options.aio = "threads";
  std::vector<std::string> command = QemuBenchCommand(path, workload, options);
  std::replace(command.begin(), command.end(), std::string("qcow2"), std::string("raw"));
  std::replace(command.begin(), command.end(), std::string("none"), std::string("writeback"));
  const auto result = RunSubprocess(command);
  EXPECT_TRUE(result.ok() && result->exit_code == 0) << (result.ok() ? result->output : "");

  std::stringstream bytes;
  bytes << std::ifstream(path).rdbuf();
  const std::string content = bytes.str();
  std::set<uint64_t> places;
  for (uint64_t at = 0; at < content.size(); at += 4096) {
    if (content[at] != 0) places.insert(at);
  }
  return places;
}

TEST(QemuBenchTest, MakesOurRequestsInOurOrder) {
  const std::optional<QemuImg> qemu = QemuImg::Find();
  if (!qemu.has_value()) FAIL() << "qemu-img is not installed";
  const Workload workload = Scattered();
  const std::vector<GuestOp> ops = MakeOps(workload);
  std::set<uint64_t> ours;
  for (uint64_t count = 1; count <= ops.size(); ++count) {
    ours.insert(ops[count - 1].offset.value());
    EXPECT_EQ(PlacesWritten(workload, count), ours) << "after " << count;
  }
}

TEST(QemuBenchTest, RunsOnAFreshImageThatItsCheckLikes) {
  const std::optional<QemuImg> qemu = QemuImg::Find();
  if (!qemu.has_value()) FAIL() << "qemu-img is not installed";
  const std::string path = testing::TempDir() + "/fresh.qcow2";
  const Workload workload = Scattered();
  ASSERT_TRUE(qemu->Prepare(path, workload, "native").ok());
  QemuImg::BenchOptions options;
  options.requests = 32;
  options.depth = 8;
  options.flush_every = 16;
  options.aio = "native";
  const auto seconds = qemu->Bench(path, workload, options);
  ASSERT_TRUE(seconds.ok()) << seconds.status();
  EXPECT_GE(*seconds, 0);
  EXPECT_TRUE(qemu->Check(path).ok());
}

TEST(QemuBenchTest, SaysWhatWentWrong) {
  const std::optional<QemuImg> qemu = QemuImg::Find();
  if (!qemu.has_value()) FAIL() << "qemu-img is not installed";
  const std::string path = testing::TempDir() + "/broken.qcow2";
  std::ofstream(path, std::ios::trunc) << "no image";
  QemuImg::BenchOptions options;
  options.requests = 1;
  options.aio = "native";
  const auto seconds = qemu->Bench(path, Scattered(), options);
  ASSERT_FALSE(seconds.ok());
  EXPECT_NE(seconds.status().message().find("not in qcow2 format"), absl::string_view::npos)
      << seconds.status();
  EXPECT_EQ(qemu->Check(path).code(), absl::StatusCode::kDataLoss);
}

TEST(SubprocessTest, ReportsExitCodesSignalsAndMissingPrograms) {
  const auto exits = RunSubprocess({"sh", "-c", "echo out; echo err >&2; exit 3"});
  ASSERT_TRUE(exits.ok());
  EXPECT_EQ(exits->exit_code, 3);
  EXPECT_EQ(exits->output, "out\nerr\n");
  const auto killed = RunSubprocess({"sh", "-c", "kill -9 $$"});
  ASSERT_TRUE(killed.ok());
  EXPECT_EQ(killed->exit_code, 137);
  EXPECT_EQ(RunSubprocess({"/no/such/program"}).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace ringcow
