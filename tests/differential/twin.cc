#include "tests/differential/twin.h"

#include <cstdint>
#include <cstdio>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "gtest/gtest.h"
#include "qcow2/image_chain.h"
#include "tests/support/checked.h"
#include "tests/support/exchange.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"
#include "tests/support/qemu_options.h"

namespace ringcow {
namespace {

enum class Behind : uint8_t { kNothing, kAnything };

void ExpectContent(const std::string& path, const std::string& format,
                   std::span<const std::byte> bytes, Behind behind = Behind::kNothing) {
  Loop loop;
  auto rings = Rings::Create(loop);
  ASSERT_TRUE(rings.ok()) << rings.status();
  auto chain = loop.Run(ImageChain::Open(
      **rings, path, {.file = {.format = format, .read_only = true}, .image = ReadOnly()}));
  ASSERT_TRUE(chain.ok()) << chain.status();
  if (behind == Behind::kNothing) {
    ASSERT_EQ((*chain)->size(), bytes.size());
  } else {
    ASSERT_GE((*chain)->size(), bytes.size());
  }
  EXPECT_EQ(ImageModel(loop, {bytes.begin(), bytes.end()}, 1).Compare(**chain), absl::OkStatus());
  EXPECT_EQ(loop.Run((*chain)->Close()), absl::OkStatus());
}

std::vector<bool> BitsOf(const DirtyBitmap& bitmap) {
  std::vector<bool> bits;
  for (uint64_t i = 0; i < bitmap.bits(); ++i) {
    bits.push_back(bitmap.Get(GuestOffset(i * bitmap.granularity())));
  }
  return bits;
}

void ExpectBitmapsIn(const std::string& path, const BitmapModels& bitmaps) {
  Loop loop;
  auto rings = Rings::Create(loop);
  ASSERT_TRUE(rings.ok()) << rings.status();
  auto chain = loop.Run(ImageChain::Open(
      **rings, path, {.file = {.format = "qcow2", .read_only = true}, .image = ReadOnly()}));
  ASSERT_TRUE(chain.ok()) << chain.status();
  Image& image = *(*chain)->image();
  const auto list = loop.Run(image.ListBitmaps());
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(list->size(), bitmaps.size());
  for (const BitmapDirectoryEntry& entry : *list) {
    SCOPED_TRACE(testing::Message() << "bitmap " << entry.name);
    const auto expected = bitmaps.find(entry.name);
    ASSERT_NE(expected, bitmaps.end());
    EXPECT_EQ(entry.automatic, expected->second.enabled());
    const auto bitmap = loop.Run(image.ReadBitmap(entry.name));
    ASSERT_TRUE(bitmap.ok()) << bitmap.status();
    EXPECT_EQ(bitmap->granularity(), expected->second.granularity());
    EXPECT_EQ(BitsOf(*bitmap), expected->second.bits());
  }
  EXPECT_EQ(loop.Run((*chain)->Close()), absl::OkStatus());
}

// `options`, with the external data file.
CreateOptions WithDataFile(CreateOptions options, DataFile data_file, const std::string& path) {
  if (data_file != DataFile::kNone) options.data_file = path;
  options.data_file_raw = data_file == DataFile::kRaw;
  return options;
}

}  // namespace

Twin::Twin(Hand& hand, const ImageSetup& setup, std::span<const std::byte> base) : setup_(setup) {
  if (!setup.backing.empty()) {
    const TempFile raw(".raw");
    WriteFile(setup.backing == "raw" ? base_.path() : raw.path(), base);
    if (setup.backing == "qcow2") {
      const CreateOptions options =
          WithDataFile(setup.base, setup.base_data_file, base_data_.path());
      QemuImg({"convert", "-f", "raw", "-O", "qcow2", "-o", QemuOptions(options), raw.path(),
               base_.path()});
    }
  }
  hand.Create(path(), WithDataFile(setup.create, setup.data_file, data_.path()),
              setup.backing.empty() ? "" : base_.path(), setup.backing);
}

void Twin::ExpectCleanAndEqual(std::span<const std::byte> bytes) {
  const ToolResult check = QemuCheck(path());
  EXPECT_EQ(check.status, 0) << check.output;
  EXPECT_EQ(Findings(FileHost(path()).disk()), "");
  ExpectContent(path(), "qcow2", bytes);
  // QEMU writes whole clusters, also where the disk ends in one.
  if (setup_.data_file == DataFile::kRaw) {
    ExpectContent(data_.path(), "raw", bytes, Behind::kAnything);
  }
}

void Twin::ExpectBitmaps(const BitmapModels& bitmaps) {
  ExpectBitmapsIn(path(), bitmaps);
  if (bitmaps.empty()) return;
  // QEMU makes new bitmaps of what it reads.
  const TempFile copy(".qcow2");
  QemuImg({"convert", "-f", "qcow2", "-O", "qcow2", "--bitmaps", path(), copy.path()});
  SCOPED_TRACE("as QEMU reads them");
  ExpectBitmapsIn(copy.path(), bitmaps);
}

void Twin::ExpectBase(std::span<const std::byte> base) {
  if (setup_.backing.empty()) return;
  ExpectContent(base_.path(), setup_.backing, base);
  if (setup_.base_data_file == DataFile::kRaw) {
    ExpectContent(base_data_.path(), "raw", base, Behind::kAnything);
  }
}

std::string Twin::Map() const {
  const ToolResult map = RunTool({"qemu-img", "map", "-f", "qcow2", "--output=json", path()});
  EXPECT_EQ(map.status, 0) << map.output;
  std::istringstream lines(map.output);
  std::string runs;
  std::string last;
  for (std::string line; std::getline(lines, line);) {
    const size_t start = line.find("\"start\": ");
    const size_t depth = line.find("\"depth\"");
    if (start == std::string::npos || depth == std::string::npos) continue;
    std::string what = line.substr(depth, line.find(", \"zero\"") - depth);
    if (line.find("\"compressed\": true") != std::string::npos) what += ", compressed";
    if (what == last) continue;
    absl::StrAppend(&runs, line.substr(start, line.find(',') - start), ": ", what, "\n");
    last = what;
  }
  return runs;
}

}  // namespace ringcow
