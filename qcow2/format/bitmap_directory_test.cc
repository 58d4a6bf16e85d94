#include "qcow2/format/bitmap_directory.h"

#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qcow2/format/big_endian.h"

namespace ringcow {
namespace {

Geometry DefaultGeometry() { return *Geometry::Create({.virtual_size = 1 << 20}); }

void AppendEntry(std::vector<std::byte>& out, const std::string& name) {
  const size_t begin = out.size();
  out.resize(begin + 24 + (name.size() + 7) / 8 * 8);
  std::byte* entry = out.data() + begin;
  StoreBe<uint64_t>(entry, 0x50000);
  StoreBe<uint32_t>(entry + 8, 3);
  StoreBe<uint32_t>(entry + 12, 2);
  entry[16] = std::byte{1};
  entry[17] = std::byte{16};
  StoreBe<uint16_t>(entry + 18, static_cast<uint16_t>(name.size()));
  std::memcpy(entry + 24, name.data(), name.size());
}

TEST(BitmapDirectoryTest, ReadsEntries) {
  std::vector<std::byte> bytes;
  AppendEntry(bytes, "b");
  AppendEntry(bytes, "a longer name");
  const auto entries = ParseBitmapDirectory(bytes, 2, DefaultGeometry());
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2u);
  const BitmapDirectoryEntry& entry = (*entries)[1];
  EXPECT_EQ(entry.table_offset, HostOffset(0x50000));
  EXPECT_EQ(entry.table_entries, 3u);
  EXPECT_FALSE(entry.in_use);
  EXPECT_TRUE(entry.automatic);
  EXPECT_EQ(entry.granularity_bits, 16);
  EXPECT_EQ(entry.name, "a longer name");

  EXPECT_FALSE(ParseBitmapDirectory(bytes, 1, DefaultGeometry()).ok());
  EXPECT_FALSE(ParseBitmapDirectory(bytes, 3, DefaultGeometry()).ok());
}

TEST(BitmapDirectoryTest, RefusesEveryBrokenField) {
  const std::vector<std::pair<std::string, std::function<void(std::byte*)>>> damages = {
      {"no table", [](std::byte* e) { StoreBe<uint64_t>(e, 0); }},
      {"table not aligned", [](std::byte* e) { StoreBe<uint64_t>(e, 0x50200); }},
      {"table overflows",
       [](std::byte* e) {
         StoreBe<uint64_t>(e, 0x7fffffffffff0000);
         StoreBe<uint32_t>(e + 8, 1 << 13);
       }},
      {"table at a negative offset",
       [](std::byte* e) { StoreBe<uint64_t>(e, 0xffffffffffff0000); }},
      {"empty table", [](std::byte* e) { StoreBe<uint32_t>(e + 8, 0); }},
      {"huge table", [](std::byte* e) { StoreBe<uint32_t>(e + 8, (1 << 27) + 1); }},
      {"unknown flag", [](std::byte* e) { StoreBe<uint32_t>(e + 12, 8); }},
      {"unknown type", [](std::byte* e) { e[16] = std::byte{2}; }},
      {"too fine", [](std::byte* e) { e[17] = std::byte{8}; }},
      {"too coarse", [](std::byte* e) { e[17] = std::byte{32}; }},
      {"no name", [](std::byte* e) { StoreBe<uint16_t>(e + 18, 0); }},
      {"name too long", [](std::byte* e) { StoreBe<uint16_t>(e + 18, 1024); }},
      {"name beyond the end", [](std::byte* e) { StoreBe<uint16_t>(e + 18, 9); }},
      {"extra data beyond the end", [](std::byte* e) { StoreBe<uint32_t>(e + 20, 8); }},
      {"extra data of 4 GiB", [](std::byte* e) { StoreBe<uint32_t>(e + 20, ~uint32_t{0}); }},
      {"more than 512 MiB of bits", [](std::byte* e) { StoreBe<uint32_t>(e + 8, 8193); }},
  };
  for (const auto& [name, damage] : damages) {
    std::vector<std::byte> bytes;
    AppendEntry(bytes, "12345678");
    ASSERT_TRUE(ParseBitmapDirectory(bytes, 1, DefaultGeometry()).ok());
    damage(bytes.data());
    EXPECT_EQ(ParseBitmapDirectory(bytes, 1, DefaultGeometry()).status().code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
}

// A bit for 512 bytes: one cluster of 64 KiB has bits for 256 MiB.
TEST(BitmapDirectoryTest, ATableThatIsTooSmallMustBeInUse) {
  std::vector<std::byte> bytes;
  AppendEntry(bytes, "b");
  bytes[17] = std::byte{9};
  const auto parses = [&bytes](uint64_t virtual_size) {
    const Geometry geometry = *Geometry::Create({.virtual_size = virtual_size});
    return ParseBitmapDirectory(bytes, 1, geometry).ok();
  };
  constexpr uint64_t kLargest = uint64_t{3 * 256} << 20;
  EXPECT_TRUE(parses(kLargest));
  EXPECT_FALSE(parses(kLargest + 512));
  StoreBe<uint32_t>(bytes.data() + 12, 3);
  EXPECT_TRUE(parses(kLargest + 512));
}

TEST(BitmapDirectoryTest, IsWrittenBackAsItWas) {
  std::vector<std::byte> bytes;
  for (const std::string name : {"b", "eight by", "a longer name"}) AppendEntry(bytes, name);
  StoreBe<uint32_t>(bytes.data() + 12, 7);
  // 5 bytes of extra data.
  const size_t begin = bytes.size();
  AppendEntry(bytes, "extraname");
  StoreBe<uint32_t>(bytes.data() + begin + 20, 5);
  StoreBe<uint32_t>(bytes.data() + begin + 12, 4);

  const auto entries = ParseBitmapDirectory(bytes, 4, DefaultGeometry());
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_FALSE((*entries)[0].usable());
  EXPECT_TRUE((*entries)[0].automatic);
  EXPECT_TRUE((*entries)[1].usable());
  EXPECT_EQ((*entries)[3].extra_data.size(), 5u);
  EXPECT_TRUE((*entries)[3].usable());
  BitmapDirectoryEntry not_compatible = (*entries)[3];
  not_compatible.extra_data_compatible = false;
  EXPECT_FALSE(not_compatible.usable());
  EXPECT_EQ(*SerializeBitmapDirectory(*entries), bytes);
  EXPECT_EQ(FindBitmap(*entries, "eight by"), 1u);
  EXPECT_EQ(FindBitmap(*entries, "eight"), std::nullopt);

  const std::vector<BitmapDirectoryEntry> many(kMaxBitmaps + 1, (*entries)[0]);
  EXPECT_EQ(SerializeBitmapDirectory(many).status().code(), absl::StatusCode::kOutOfRange);
}

TEST(BitmapDirectoryTest, SizesOfTables) {
  const Geometry geometry = *Geometry::Create({.virtual_size = uint64_t{1} << 40});
  EXPECT_EQ(BytesPerBitmapCluster(geometry, 9), uint64_t{256} << 20);
  EXPECT_EQ(BitmapTableEntries(geometry, 9), 4096u);
  EXPECT_EQ(BitmapTableEntries(geometry, 16), 32u);
  EXPECT_EQ(BitmapTableEntries(geometry, 31), 1u);
  EXPECT_EQ(BitmapTableEntries(*geometry.Resized((uint64_t{1} << 40) + 512), 9), 4097u);
  EXPECT_EQ(BitmapTableEntries(*geometry.Resized(0), 9), 0u);
}

TEST(BitmapDirectoryTest, NewBitmapsAreValidatedInQemusWords) {
  const auto problem = [](uint64_t virtual_size, const std::string& name, uint64_t granularity) {
    const Geometry geometry = *Geometry::Create({.virtual_size = virtual_size});
    return std::string(ValidateNewBitmap(geometry, name, granularity).message());
  };
  EXPECT_EQ(problem(1 << 20, "b", 65536), "");
  EXPECT_EQ(problem(1 << 20, std::string(1023, 'n'), 512), "");
  EXPECT_EQ(problem(1 << 20, "", 512), "Bitmap name cannot be empty");
  EXPECT_EQ(problem(1 << 20, std::string(1024, 'n'), 512),
            "Name length exceeds maximum (1023 characters)");
  EXPECT_EQ(problem(1 << 20, "b", 256), "Granularity must be power of 2 and at least 512");
  EXPECT_EQ(problem(1 << 20, "b", 1000), "Granularity must be power of 2 and at least 512");
  EXPECT_EQ(problem(1 << 20, "b", uint64_t{1} << 31), "");
  EXPECT_EQ(problem(1 << 20, "b", uint64_t{1} << 32),
            "Granularity exceeds maximum (2147483648 bytes)");
  EXPECT_EQ(problem(uint64_t{2} << 40, "b", 512), "");
  EXPECT_EQ(problem((uint64_t{2} << 40) + 4096, "b", 512),
            "Too much space will be occupied by the bitmap. Use larger granularity");

  EXPECT_EQ(DefaultBitmapGranularity(*Geometry::Create({.cluster_bits = 9})), 4096u);
  EXPECT_EQ(DefaultBitmapGranularity(*Geometry::Create({.cluster_bits = 14})), 16384u);
  EXPECT_EQ(DefaultBitmapGranularity(*Geometry::Create({.cluster_bits = 21})), 65536u);
}

TEST(BitmapDirectoryTest, Extension) {
  std::vector<std::byte> payload(24);
  StoreBe<uint32_t>(payload.data(), 2);
  StoreBe<uint64_t>(payload.data() + 8, 64);
  StoreBe<uint64_t>(payload.data() + 16, 0x70000);
  const auto extension = ParseBitmapsExtension(payload, DefaultGeometry());
  ASSERT_TRUE(extension.ok()) << extension.status();
  EXPECT_EQ(extension->nb_bitmaps, 2u);
  EXPECT_EQ(extension->directory_bytes, 64u);
  EXPECT_EQ(extension->directory_offset, HostOffset(0x70000));

  EXPECT_EQ(SerializeBitmapsExtension(*extension), payload);

  EXPECT_FALSE(ParseBitmapsExtension(std::span(payload).first(23), DefaultGeometry()).ok());
  for (const auto& [at, value] : std::vector<std::pair<size_t, uint32_t>>{{0, 0},
                                                                          {0, 65536},
                                                                          {4, 1},
                                                                          {8, 0x80000000},
                                                                          {12, 0},
                                                                          {12, 0x10000000},
                                                                          {16, 0x80000000},
                                                                          {20, 0x70100}}) {
    std::vector<std::byte> broken = payload;
    StoreBe<uint32_t>(broken.data() + at, value);
    EXPECT_FALSE(ParseBitmapsExtension(broken, DefaultGeometry()).ok()) << at;
  }
}

TEST(BitmapDirectoryTest, TableEntries) {
  const Geometry geometry = DefaultGeometry();
  const auto entry = [](uint64_t raw) { return BitmapTableEntry::FromRaw(raw); };
  EXPECT_TRUE(entry(0).IsValid(geometry));
  EXPECT_FALSE(entry(0).cluster().has_value());
  EXPECT_TRUE(entry(1).IsValid(geometry));
  EXPECT_TRUE(entry(0x30000).IsValid(geometry));
  EXPECT_EQ(entry(0x30000).cluster(), HostOffset(0x30000));
  EXPECT_EQ(BitmapTableEntry::AllZeroes(), entry(0));
  EXPECT_EQ(BitmapTableEntry::AllOnes(), entry(1));
  EXPECT_EQ(BitmapTableEntry::Cluster(HostOffset(0x30000)), entry(0x30000));
  EXPECT_TRUE(entry(1).all_ones());
  EXPECT_FALSE(entry(0).all_ones() || entry(0x30000).all_ones() || entry(0x30001).all_ones());
  for (const uint64_t broken :
       {uint64_t{2}, uint64_t{1} << 56, uint64_t{0x30001}, uint64_t{0x30200}}) {
    EXPECT_FALSE(entry(broken).IsValid(geometry)) << broken;
  }
}

}  // namespace
}  // namespace ringcow
