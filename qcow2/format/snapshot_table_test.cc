#include "qcow2/format/snapshot_table.h"

#include <cstddef>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/limits.h"

namespace ringcow {
namespace {

template <typename T>
void Append(std::vector<std::byte>& out, T value) {
  out.resize(out.size() + sizeof(T));
  StoreBe<T>(out.data() + out.size() - sizeof(T), value);
}

void AppendText(std::vector<std::byte>& out, const std::string& text) {
  for (const char c : text) out.push_back(static_cast<std::byte>(c));
}

// An entry with `extra_bytes` of extra data: 64-bit numbers 100, 101, ...
void AppendEntry(std::vector<std::byte>& out, const std::string& id, const std::string& name,
                 uint32_t extra_bytes) {
  while (out.size() % 8 != 0) out.push_back(std::byte{0});
  Append<uint64_t>(out, 0x90000);
  Append<uint32_t>(out, 7);
  Append<uint16_t>(out, static_cast<uint16_t>(id.size()));
  Append<uint16_t>(out, static_cast<uint16_t>(name.size()));
  Append<uint32_t>(out, 1234567);
  Append<uint32_t>(out, 890);
  Append<uint64_t>(out, 0x123456789a);
  Append<uint32_t>(out, 42);
  Append<uint32_t>(out, extra_bytes);
  for (uint32_t i = 0; i < extra_bytes / 8; ++i) Append<uint64_t>(out, 100 + i);
  AppendText(out, id);
  AppendText(out, name);
}

TEST(SnapshotTableTest, ReadsEveryField) {
  std::vector<std::byte> bytes;
  AppendEntry(bytes, "1", "before the upgrade", 32);
  AppendEntry(bytes, "17", "b", 0);
  const auto table = ParseSnapshotTable(bytes, 2);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->bytes, bytes.size());
  ASSERT_EQ(table->snapshots.size(), 2u);

  const Snapshot& first = table->snapshots[0];
  EXPECT_EQ(first.l1_table_offset, HostOffset(0x90000));
  EXPECT_EQ(first.l1_entries, 7u);
  EXPECT_EQ(first.id, "1");
  EXPECT_EQ(first.name, "before the upgrade");
  EXPECT_EQ(first.date_seconds, 1234567u);
  EXPECT_EQ(first.date_nanoseconds, 890u);
  EXPECT_EQ(first.vm_clock_nanoseconds, 0x123456789au);
  EXPECT_EQ(first.vm_state_bytes, 100u);
  EXPECT_EQ(first.virtual_size, 101u);
  EXPECT_EQ(first.icount, 102u);
  EXPECT_EQ(first.extra_data_bytes, 32u);
  ASSERT_EQ(first.unknown_extra_data.size(), 8u);
  EXPECT_EQ(LoadBe<uint64_t>(first.unknown_extra_data.data()), 103u);

  const Snapshot& second = table->snapshots[1];
  EXPECT_EQ(second.id, "17");
  EXPECT_EQ(second.name, "b");
  EXPECT_EQ(second.vm_state_bytes, 42u);
  EXPECT_FALSE(second.virtual_size.has_value());
  EXPECT_FALSE(second.icount.has_value());
}

TEST(SnapshotTableTest, NoInstructionCountIsNone) {
  std::vector<std::byte> bytes;
  AppendEntry(bytes, "1", "", 24);
  StoreBe<uint64_t>(bytes.data() + 56, ~uint64_t{0});
  EXPECT_FALSE(ParseSnapshotTable(bytes, 1)->snapshots[0].icount.has_value());
}

TEST(SnapshotTableTest, EveryPrefixAsksForMoreAndEndsAtTheWhole) {
  std::vector<std::byte> bytes;
  AppendEntry(bytes, "1", "one", 16);
  AppendEntry(bytes, "2", "another", 24);
  AppendEntry(bytes, "3", "", 8);
  for (size_t have = 0; have < bytes.size(); ++have) {
    const auto table = ParseSnapshotTable(std::span(bytes).first(have), 3);
    ASSERT_TRUE(table.ok());
    EXPECT_GT(table->bytes, have);
    EXPECT_LE(table->bytes, bytes.size());
    EXPECT_LT(table->snapshots.size(), 3u);
  }
  EXPECT_EQ(ParseSnapshotTable(bytes, 3)->snapshots.size(), 3u);
  EXPECT_EQ(ParseSnapshotTable({}, 0)->bytes, 0u);
}

TEST(SnapshotTableTest, RefusesTooMuchExtraData) {
  std::vector<std::byte> bytes;
  AppendEntry(bytes, "1", "", kMaxSnapshotExtraBytes);
  EXPECT_TRUE(ParseSnapshotTable(bytes, 1).ok());
  AppendEntry(bytes, "2", "", kMaxSnapshotExtraBytes + 8);
  const auto table = ParseSnapshotTable(bytes, 2);
  EXPECT_EQ(table.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(table.status().message(), "Too much extra metadata in snapshot table entry 1");
}

TEST(SnapshotTableTest, RefusesATableThatIsTooBig) {
  const std::string name(65535, 'n');
  std::vector<std::byte> bytes;
  uint32_t entries = 0;
  while (bytes.size() <= kMaxSnapshotTableBytes) {
    AppendEntry(bytes, "", name, 16);
    ++entries;
  }
  EXPECT_TRUE(ParseSnapshotTable(bytes, entries - 1).ok());
  EXPECT_EQ(ParseSnapshotTable(bytes, entries).status().code(), absl::StatusCode::kOutOfRange);
}

}  // namespace
}  // namespace ringcow
