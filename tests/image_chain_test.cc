// Images with all their backing files, opened by name.

#include "qcow2/image_chain.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "gtest/gtest.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

class ImageChainTest : public testing::Test {
 protected:
  ImageChainTest() : directory_(testing::TempDir() + "/chain.XXXXXX") {
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
    absl::StatusOr<std::unique_ptr<Rings>> rings = Rings::Create(loop_);
    EXPECT_EQ(rings.status(), absl::OkStatus());
    rings_ = *std::move(rings);
  }
  ~ImageChainTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return absl::StrCat(directory_, "/", name); }

  void MakeBase(const std::string& name) const {
    QemuImg({"create", "-q", "-f", "qcow2", Path(name), "1M"});
    QemuIo(Path(name), {"write -P 1 0 1M"});
  }

  // With a header that names `backing`, whether there is such a file or not.
  void MakeOverlay(const std::string& name, const std::string& backing, const std::string& format,
                   const std::string& size = "1M") const {
    QemuImg({"create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", format, Path(name), size});
  }

  // Makes the header's backing format extension one that nobody knows.
  void ForgetBackingFormat(const std::string& name) const {
    std::fstream file(Path(name), std::ios::binary | std::ios::in | std::ios::out);
    std::string header(4096, '\0');
    file.read(header.data(), static_cast<std::streamsize>(header.size()));
    const size_t at = header.find("\xe2\x79\x2a\xca");
    ASSERT_NE(at, std::string::npos);
    file.seekp(static_cast<std::streamoff>(at));
    file.write("\x7f\x7f\x7f\x7f", 4);
  }

  absl::StatusOr<std::unique_ptr<ImageChain>> Open(const std::string& name,
                                                   ImageFileOptions file = {}) {
    return loop_.Run(ImageChain::Open(*rings_, Path(name), {.file = std::move(file), .image = {}}));
  }

  void ExpectRefused(const std::string& name, const std::string& sentence) {
    const auto chain = Open(name);
    ASSERT_FALSE(chain.ok()) << name;
    EXPECT_EQ(std::string(chain.status().message()), sentence) << name;
  }

  std::vector<std::byte> ReadAll(ImageChain& chain) {
    std::vector<std::byte> bytes(chain.size());
    EXPECT_EQ(loop_.Run(chain.Read(GuestOffset(0), bytes)), absl::OkStatus());
    return bytes;
  }

  std::string directory_;
  Loop loop_;
  std::unique_ptr<Rings> rings_;
};

TEST_F(ImageChainTest, FindsBackingFilesByEveryKindOfName) {
  MakeBase("base");
  ASSERT_TRUE(std::filesystem::create_directory(Path("d")));
  MakeOverlay("d/relative", "../base", "qcow2");
  MakeOverlay("absolute", Path("d/relative"), "qcow2");
  MakeOverlay("top", absl::StrCat("file:", Path("absolute")), "qcow2");
  auto chain = Open("top");
  ASSERT_EQ(chain.status(), absl::OkStatus());
  EXPECT_EQ((*chain)->layers().size(), 4U);
  const std::vector<std::byte> bytes = ReadAll(**chain);
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{1}), 1 << 20);
  EXPECT_EQ(loop_.Run((*chain)->Close()), absl::OkStatus());
}

TEST_F(ImageChainTest, LooksWhereNoFormatIsNamed) {
  MakeBase("base");
  std::ofstream(Path("plain"), std::ios::binary) << std::string(1 << 20, '\x02');
  MakeOverlay("on_qcow2", "base", "qcow2");
  MakeOverlay("on_raw", "plain", "raw");
  MakeOverlay("on_header", "base", "raw");  // said to be raw: its bytes are the guest's
  for (const char* name : {"on_qcow2", "on_raw"}) ForgetBackingFormat(name);
  for (const auto& [name, expected] :
       {std::pair("on_qcow2", 1), std::pair("on_raw", 2), std::pair("on_header", int{'Q'})}) {
    auto chain = Open(name);
    ASSERT_EQ(chain.status(), absl::OkStatus()) << name;
    EXPECT_EQ(ReadAll(**chain)[0], static_cast<std::byte>(expected)) << name;
    EXPECT_EQ((*chain)->layers()[1].image != nullptr, expected == 1) << name;
  }
}

TEST_F(ImageChainTest, WritesToTheImageAndToNothingElse) {
  MakeBase("base");
  MakeOverlay("middle", "base", "qcow2");
  MakeOverlay("top", "middle", "qcow2", "2M");
  // Permissions do not stop root, but the layers are asked to be read-only also where they do.
  const auto written = [this](const char* name) {
    return std::filesystem::last_write_time(Path(name));
  };
  const auto base_time = written("base");
  const auto middle_time = written("middle");
  auto chain = Open("top");
  ASSERT_EQ(chain.status(), absl::OkStatus());
  const std::vector<std::byte> bytes(3000, std::byte{9});
  EXPECT_EQ(loop_.Run((*chain)->Write(GuestOffset(70000), bytes)), absl::OkStatus());
  for (size_t layer : {1U, 2U}) {
    EXPECT_FALSE(loop_.Run((*chain)->layers()[layer].guest->Write(GuestOffset(0), bytes)).ok());
  }
  EXPECT_EQ(loop_.Run((*chain)->Close()), absl::OkStatus());
  chain->reset();
  QemuIo(Path("top"), {"read -P 1 0 70000", "read -P 9 70000 3000", "read -P 1 73000 975576",
                       "read -P 0 1M 1M"});
  EXPECT_EQ(QemuCheck(Path("top")).status, 0);
  EXPECT_EQ(written("base"), base_time);
  EXPECT_EQ(written("middle"), middle_time);
}

TEST_F(ImageChainTest, LocksItsFiles) {
  MakeBase("base");
  MakeOverlay("top", "base", "qcow2");
  MakeOverlay("other", "base", "qcow2");
  auto chain = Open("top");
  ASSERT_EQ(chain.status(), absl::OkStatus());
  EXPECT_EQ(Open("other").status(), absl::OkStatus());  // a backing file can be shared
  EXPECT_FALSE(Open("top").ok());
  EXPECT_FALSE(Open("base").ok());
  EXPECT_EQ(Open("top", {.format = "", .read_only = true, .force_share = true}).status(),
            absl::OkStatus());
}

TEST_F(ImageChainTest, RefusesLoops) {
  for (const char* name : {"a", "b", "self"}) MakeBase(name);
  MakeOverlay("a", "b", "qcow2");
  MakeOverlay("b", "./link", "qcow2");
  ASSERT_EQ(link(Path("a").c_str(), Path("link").c_str()), 0);
  MakeOverlay("self", "self", "qcow2");
  ExpectRefused("self", absl::StrCat("Could not open backing file: Backing file '", Path("self"),
                                     "' creates an infinite loop."));
  ExpectRefused("a", absl::StrCat("Could not open backing file: Could not open backing file: "
                                  "Backing file '",
                                  Path("./link"), "' creates an infinite loop."));
}

// Each copy names the next one: a name of three characters is all that differs.
TEST_F(ImageChainTest, RefusesWhatIsTooDeep) {
  const auto name = [](size_t i) { return absl::StrFormat("%03d", i); };
  MakeOverlay("template", "xxx", "qcow2");
  std::ostringstream bytes;
  bytes << std::ifstream(Path("template"), std::ios::binary).rdbuf();
  const size_t at = bytes.str().find("xxx");
  ASSERT_NE(at, std::string::npos);
  for (size_t i = 1; i <= kMaxLayersOfChain; ++i) {
    std::ofstream(Path(name(i)), std::ios::binary) << bytes.str().replace(at, 3, name(i - 1));
  }
  MakeBase(name(0));
  auto deepest = Open(name(kMaxLayersOfChain - 1));
  ASSERT_EQ(deepest.status(), absl::OkStatus());
  EXPECT_EQ((*deepest)->layers().size(), kMaxLayersOfChain);
  EXPECT_EQ(ReadAll(**deepest)[77777], std::byte{1});
  deepest->reset();
  const auto deeper = Open(name(kMaxLayersOfChain));
  EXPECT_NE(deeper.status().message().find("The backing chain has more than 200 files"),
            std::string::npos)
      << deeper.status();
}

TEST_F(ImageChainTest, SaysWhatIsWrongWithABackingFile) {
  std::ofstream(Path("plain"), std::ios::binary) << std::string(1 << 20, '\x02');
  std::ofstream(Path("foreign"), std::ios::binary) << "KDMV" << std::string(512, '\0');
  MakeOverlay("missing", "nowhere", "qcow2");
  MakeOverlay("above_missing", "missing", "qcow2");
  MakeOverlay("no_qcow2", "plain", "qcow2");
  MakeOverlay("protocol", "foo:bar", "raw");
  MakeOverlay("described", R"(json:{"driver":"raw"})", "raw");
  MakeOverlay("vmdk", "foreign", "raw");
  ForgetBackingFormat("vmdk");
  const std::string nowhere = absl::StrCat("Could not open backing file: Could not open '",
                                           Path("nowhere"), "': No such file or directory");
  ExpectRefused("missing", nowhere);
  ExpectRefused("above_missing", absl::StrCat("Could not open backing file: ", nowhere));
  ExpectRefused("no_qcow2", "Could not open backing file: Image is not in qcow2 format");
  ExpectRefused("protocol", "Could not open backing file: Unknown protocol 'foo'");
  ExpectRefused("described",
                "Could not open backing file: A block device must be specified for \"file\"");
  ExpectRefused("vmdk",
                "Could not open backing file: Image format 'vmdk' is not supported, only qcow2 and "
                "raw are");
}

}  // namespace
}  // namespace ringcow
