// Tables that QEMU wrote come back byte for byte when they are parsed and serialized again.

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/bitmap_directory.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/snapshot_table.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

Bytes ReadAll(const std::string& path) {
  Bytes bytes(std::filesystem::file_size(path));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

Bytes Part(const Bytes& bytes, HostOffset offset, uint64_t length) {
  const auto part = std::span(bytes).subspan(offset.value(), length);
  return {part.begin(), part.end()};
}

TEST(FormatQemuTest, SnapshotTable) {
  for (const std::string compat : {"compat=0.10", "compat=1.1"}) {
    const TempFile file(".qcow2");
    QemuImg({"create", "-q", "-f", "qcow2", "-o", compat, file.path(), "1M"});
    for (const std::string name : {"a", "1", "", "a", "a longer name"}) {
      QemuImg({"snapshot", "-c", name, file.path()});
    }
    QemuImg({"snapshot", "-d", "1", file.path()});
    const Bytes image = ReadAll(file.path());
    const Header header = *ParseHeader(image, image.size());
    const auto table = ParseSnapshotTable(std::span(image).subspan(header.snapshots_offset.value()),
                                          header.nb_snapshots);
    ASSERT_TRUE(table.ok()) << table.status();
    EXPECT_EQ(*SerializeSnapshotTable(table->snapshots),
              Part(image, header.snapshots_offset, table->bytes));
    ASSERT_EQ(table->snapshots.size(), 4u);
    // QEMU deletes by name: what was called 1 had the id 2.
    EXPECT_EQ(FindSnapshotByIdOrName(table->snapshots, "2"), std::nullopt);
    EXPECT_EQ(FindSnapshotByIdOrName(table->snapshots, "1"), 0u);
    EXPECT_EQ(table->snapshots[0].virtual_size, 1u << 20);
    EXPECT_EQ(NextSnapshotId(table->snapshots), "6");
    for (const Snapshot& snapshot : table->snapshots) {
      EXPECT_TRUE(ValidateSnapshotL1Table(snapshot, *GeometryOf(header)).ok());
      EXPECT_EQ(snapshot.extra_data.size(), kSnapshotExtraBytes);
    }
  }
}

TEST(FormatQemuTest, BitmapDirectory) {
  const TempFile file(".qcow2");
  QemuImg({"create", "-q", "-f", "qcow2", file.path(), "3G"});
  QemuImg({"bitmap", "--add", file.path(), "b"});
  QemuImg({"bitmap", "--add", "-g", "512", file.path(), std::string(kMaxBitmapNameBytes, 'n')});
  QemuImg({"bitmap", "--add", "--disable", "-g", "2G", file.path(), "coarse"});
  QemuIo(file.path(), {"write 0 1M"});
  const Bytes image = ReadAll(file.path());
  const Header header = *ParseHeader(image, image.size());
  const Geometry geometry = *GeometryOf(header);
  ASSERT_TRUE(header.extensions.bitmaps.has_value());
  const auto extension = ParseBitmapsExtension(*header.extensions.bitmaps, geometry);
  ASSERT_TRUE(extension.ok()) << extension.status();
  EXPECT_EQ(SerializeBitmapsExtension(*extension), *header.extensions.bitmaps);

  const Bytes directory = Part(image, extension->directory_offset, extension->directory_bytes);
  const auto bitmaps = ParseBitmapDirectory(directory, extension->nb_bitmaps, geometry);
  ASSERT_TRUE(bitmaps.ok()) << bitmaps.status();
  EXPECT_EQ(*SerializeBitmapDirectory(*bitmaps), directory);
  ASSERT_EQ(bitmaps->size(), 3u);
  EXPECT_EQ((*bitmaps)[0].granularity_bits, 16);
  EXPECT_EQ(uint64_t{1} << (*bitmaps)[0].granularity_bits, DefaultBitmapGranularity(geometry));
  EXPECT_TRUE((*bitmaps)[0].automatic);
  EXPECT_FALSE((*bitmaps)[2].automatic);
  for (const BitmapDirectoryEntry& bitmap : *bitmaps) {
    EXPECT_TRUE(bitmap.usable());
    EXPECT_EQ(bitmap.table_entries, BitmapTableEntries(geometry, bitmap.granularity_bits));
    const Bytes table = Part(image, bitmap.table_offset, bitmap.table_entries * 8);
    for (uint32_t i = 0; i < bitmap.table_entries; ++i) {
      EXPECT_TRUE(BitmapTableEntry::FromRaw(LoadBe64At(table, i)).IsValid(geometry));
    }
  }
}

}  // namespace
}  // namespace ringcow
