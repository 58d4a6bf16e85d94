// The library's commit by itself: what it refuses, tells and leaves. What it writes is compared
// with QEMU's in cli_commit_test.cc and in the differential test.

#include "qcow2/commit.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "gtest/gtest.h"
#include "qcow2/image_chain.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

constexpr uint64_t kWritten = uint64_t{192} << 10;

class CommitTest : public testing::Test {
 protected:
  CommitTest() {
    QemuImg({"create", "-q", "-f", "qcow2", base_.path(), "1M"});
    QemuImg({"create", "-q", "-f", "qcow2", "-b", base_.path(), "-F", "qcow2", overlay_.path()});
    QemuIo(overlay_.path(), {"write -P 7 64k 192k"});
  }

  absl::Status CommitOverlay(CommitOptions options, std::optional<size_t> also_writable = 1) {
    return CommitImage(overlay_.path(), std::move(options), also_writable);
  }
  static absl::Status CommitImage(const std::string& path, CommitOptions options,
                                  std::optional<size_t> also_writable) {
    Loop loop;
    const auto rings = Rings::Create(loop);
    if (!rings.ok()) return rings.status();
    auto chain = loop.Run(ImageChain::Open(
        **rings, path, {.file = {.format = "qcow2"}, .image = {}, .also_writable = also_writable}));
    if (!chain.ok()) return chain.status();
    absl::Status status = loop.Run(Commit(**chain, std::move(options)));
    status.Update(loop.Run((*chain)->Close()));
    return status;
  }

  bool HasOwnData() {
    const ToolResult map = RunTool({"qemu-img", "map", "--output=json", overlay_.path()});
    return map.output.find("\"depth\": 0, \"present\": true") != std::string::npos;
  }
  void ExpectAsWritten() { QemuIo(overlay_.path(), {"read -P 7 64k 192k", "read -P 0 0 64k"}); }
  void ExpectCommitted() { QemuIo(base_.path(), {"read -P 7 64k 192k", "read -P 0 0 64k"}); }

  const TempFile base_{".base"};
  const TempFile overlay_{".qcow2"};
};

TEST_F(CommitTest, EmptiesTheImage) {
  ASSERT_TRUE(HasOwnData());
  EXPECT_EQ(CommitOverlay({}), absl::OkStatus());
  EXPECT_FALSE(HasOwnData());
  ExpectAsWritten();
  ExpectCommitted();
}

TEST_F(CommitTest, LeavesTheImageAsItIsOnRequest) {
  EXPECT_EQ(CommitOverlay({.empties = false}), absl::OkStatus());
  EXPECT_TRUE(HasOwnData());
  ExpectCommitted();
}

TEST_F(CommitTest, TellsHowFarItHasCome) {
  std::vector<std::pair<uint64_t, uint64_t>> told;
  EXPECT_EQ(CommitOverlay({.on_progress = [&told](uint64_t done,
                                                  uint64_t all) { told.emplace_back(done, all); }}),
            absl::OkStatus());
  ASSERT_FALSE(told.empty());
  EXPECT_EQ(told.back(), std::pair(kWritten, kWritten));
}

TEST_F(CommitTest, OfWhatHasNoSuchBackingFileIsRefused) {
  EXPECT_TRUE(absl::IsFailedPrecondition(CommitOverlay({.depth = 2, .empties = false})));
  EXPECT_TRUE(absl::IsFailedPrecondition(CommitOverlay({.depth = 0, .empties = false})));
}

TEST_F(CommitTest, TheImageKeepsWhatItsBackingFileDidNotTake) {
  EXPECT_TRUE(absl::IsPermissionDenied(CommitOverlay({}, std::nullopt)));
  EXPECT_TRUE(HasOwnData());
  ExpectAsWritten();
}

// A layer in between that is shorter hides what is below it.
TEST_F(CommitTest, ShorterLayersReadAsZeroesBehindTheirEnd) {
  const TempFile top(".qcow2");
  QemuIo(base_.path(), {"write -P 1 0 1M"});
  QemuImg({"resize", "-q", "--shrink", overlay_.path(), "512k"});
  QemuImg({"create", "-q", "-f", "qcow2", "-b", overlay_.path(), "-F", "qcow2", top.path(), "1M"});
  EXPECT_EQ(CommitImage(top.path(), {.depth = 2, .empties = false}, 2), absl::OkStatus());
  QemuIo(base_.path(),
         {"read -P 1 0 64k", "read -P 7 64k 192k", "read -P 1 256k 256k", "read -P 0 512k 512k"});
}

// The new size is one of the things that it takes over.
TEST_F(CommitTest, GrowsTheBackingFile) {
  QemuImg({"resize", "-q", overlay_.path(), "2M"});
  EXPECT_EQ(CommitOverlay({}), absl::OkStatus());
  QemuIo(base_.path(), {"read -P 0 1M 1M"});
}

}  // namespace
}  // namespace ringcow
