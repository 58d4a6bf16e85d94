#include "qcow2/format/snapshot_table.h"

#include <cstddef>
#include <string>
#include <utility>
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
                 uint32_t extra_bytes, uint32_t vm_state_bytes = 42) {
  while (out.size() % 8 != 0) out.push_back(std::byte{0});
  Append<uint64_t>(out, 0x90000);
  Append<uint32_t>(out, 7);
  Append<uint16_t>(out, static_cast<uint16_t>(id.size()));
  Append<uint16_t>(out, static_cast<uint16_t>(name.size()));
  Append<uint32_t>(out, 1234567);
  Append<uint32_t>(out, 890);
  Append<uint64_t>(out, 0x123456789a);
  Append<uint32_t>(out, vm_state_bytes);
  Append<uint32_t>(out, extra_bytes);
  const size_t extra_end = out.size() + extra_bytes;
  for (uint32_t i = 0; out.size() < extra_end; ++i) Append<uint64_t>(out, 100 + i);
  out.resize(extra_end);
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
  ASSERT_EQ(first.extra_data.size(), 32u);
  EXPECT_EQ(LoadBe<uint64_t>(first.extra_data.data() + 24), 103u);

  const Snapshot& second = table->snapshots[1];
  EXPECT_EQ(second.id, "17");
  EXPECT_EQ(second.name, "b");
  EXPECT_EQ(second.vm_state_bytes, 42u);
  EXPECT_FALSE(second.virtual_size.has_value());
  EXPECT_FALSE(second.icount.has_value());
}

// Whatever the length of the extra data, unknown fields and half of one included.
TEST(SnapshotTableTest, IsWrittenBackAsItWas) {
  std::vector<std::byte> bytes;
  uint32_t entries = 0;
  for (const uint32_t extra_bytes : {0, 8, 12, 16, 20, 24, 32, 1024}) {
    // Where there is a 64-bit VM state size, the 32-bit one is written as QEMU does.
    AppendEntry(bytes, std::to_string(++entries), "name", extra_bytes, extra_bytes < 8 ? 42 : 100);
  }
  AppendEntry(bytes, "", std::string(65535, 'n'), 24, 100);
  const absl::StatusOr<SnapshotTable> table = ParseSnapshotTable(bytes, entries + 1);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(*SerializeSnapshotTable(table->snapshots), bytes);
  EXPECT_TRUE(SerializeSnapshotTable({})->empty());
}

TEST(SnapshotTableTest, ANewSnapshotIsLaidOutAsQemuDoes) {
  Snapshot snapshot;
  snapshot.l1_table_offset = HostOffset(0x50000);
  snapshot.l1_entries = 2;
  snapshot.id = "1";
  snapshot.name = "now";
  snapshot.vm_state_bytes = uint64_t{5} << 30;
  snapshot.virtual_size = 1 << 20;
  const std::vector<std::byte> bytes = *SerializeSnapshotTable({&snapshot, 1});
  ASSERT_EQ(bytes.size(), 40u + 24 + 4);
  EXPECT_EQ(LoadBe<uint64_t>(bytes.data()), 0x50000u);
  EXPECT_EQ(LoadBe<uint32_t>(bytes.data() + 32), 0u);  // does not fit
  EXPECT_EQ(LoadBe<uint32_t>(bytes.data() + 36), 24u);
  EXPECT_EQ(LoadBe<uint64_t>(bytes.data() + 40), uint64_t{5} << 30);
  EXPECT_EQ(LoadBe<uint64_t>(bytes.data() + 48), 1u << 20);
  EXPECT_EQ(LoadBe<uint64_t>(bytes.data() + 56), ~uint64_t{0});
  const Snapshot parsed = ParseSnapshotTable(bytes, 1)->snapshots[0];
  EXPECT_EQ(parsed.vm_state_bytes, uint64_t{5} << 30);
  EXPECT_EQ(parsed.virtual_size, 1u << 20);
  EXPECT_FALSE(parsed.icount.has_value());
}

TEST(SnapshotTableTest, FieldsThatAreSetMakeTheExtraDataLonger) {
  std::vector<std::byte> bytes;
  AppendEntry(bytes, "1", "old", 0);
  Snapshot snapshot = ParseSnapshotTable(bytes, 1)->snapshots[0];
  EXPECT_EQ(SerializeSnapshotTable({&snapshot, 1})->size(), bytes.size());
  snapshot.virtual_size = 4096;
  EXPECT_EQ(SerializeSnapshotTable({&snapshot, 1})->size(), bytes.size() + 16);
  snapshot.icount = 7;
  const std::vector<std::byte> longer = *SerializeSnapshotTable({&snapshot, 1});
  EXPECT_EQ(longer.size(), bytes.size() + 24);
  const Snapshot parsed = ParseSnapshotTable(longer, 1)->snapshots[0];
  EXPECT_EQ(parsed.vm_state_bytes, 42u);
  EXPECT_EQ(parsed.virtual_size, 4096u);
  EXPECT_EQ(parsed.icount, 7u);
}

TEST(SnapshotTableTest, WhatDoesNotFitIsNotWritten) {
  Snapshot snapshot;
  snapshot.name.assign(65536, 'n');
  EXPECT_EQ(SerializeSnapshotTable({&snapshot, 1}).status().code(), absl::StatusCode::kOutOfRange);
  snapshot.name.clear();
  snapshot.extra_data.resize(kMaxSnapshotExtraBytes + 1);
  EXPECT_EQ(SerializeSnapshotTable({&snapshot, 1}).status().code(), absl::StatusCode::kOutOfRange);

  std::vector<Snapshot> many(kMaxSnapshots);
  EXPECT_EQ(SerializeSnapshotTable(many)->size(), kMaxSnapshots * 64);
  many.emplace_back();
  EXPECT_EQ(SerializeSnapshotTable(many).status().code(), absl::StatusCode::kOutOfRange);
  many.resize(1100);
  for (Snapshot& one : many) one.name.assign(65535, 'n');
  EXPECT_EQ(SerializeSnapshotTable(many).status().message(), "Snapshot table is too big");
}

TEST(SnapshotTableTest, L1TablesWithinTheLimits) {
  const Geometry geometry = *Geometry::Create({.virtual_size = 1 << 20});
  const auto problem = [&geometry](uint64_t offset, uint32_t entries) {
    Snapshot snapshot;
    snapshot.id = "5";
    snapshot.l1_table_offset = HostOffset(offset);
    snapshot.l1_entries = entries;
    return std::string(ValidateSnapshotL1Table(snapshot, geometry).message());
  };
  EXPECT_EQ(problem(0x50000, 1), "");
  EXPECT_EQ(problem(0x50000, kMaxL1Entries), "");
  EXPECT_EQ(problem(0, 0), "");
  EXPECT_EQ(problem(0x50000, kMaxL1Entries + 1), "Snapshot L1 table too large");
  EXPECT_EQ(problem(0x50200, 1), "Snapshot L1 table offset invalid");
  EXPECT_NE(problem(0, 1), "");
  EXPECT_NE(problem(0xffffffffffff0000, 0), "");
  EXPECT_NE(problem(0x7fffffffffff0000, 8192), "");
  EXPECT_EQ(problem(0x7fffffffffff0000, 8191), "");
}

std::vector<Snapshot> Named(const std::vector<std::pair<std::string, std::string>>& names) {
  std::vector<Snapshot> snapshots;
  for (const auto& [id, name] : names) {
    snapshots.emplace_back();
    snapshots.back().id = id;
    snapshots.back().name = name;
  }
  return snapshots;
}

TEST(SnapshotTableTest, IsFoundByIdFirst) {
  const std::vector<Snapshot> snapshots =
      Named({{"1", "a"}, {"2", "1"}, {"3", "a"}, {"4", "9"}, {"9", ""}});
  EXPECT_EQ(FindSnapshotByIdOrName(snapshots, "1"), 0u);
  EXPECT_EQ(FindSnapshotByIdOrName(snapshots, "9"), 4u);
  EXPECT_EQ(FindSnapshotByIdOrName(snapshots, "a"), 0u);
  EXPECT_EQ(FindSnapshotByIdOrName(snapshots, ""), 4u);
  EXPECT_EQ(FindSnapshotByIdOrName(snapshots, "b"), std::nullopt);
  EXPECT_EQ(FindSnapshotByName(snapshots, "1"), 1u);
  EXPECT_EQ(FindSnapshotByName(snapshots, "9"), 3u);
  EXPECT_EQ(FindSnapshotByName(snapshots, "2"), std::nullopt);
}

TEST(SnapshotTableTest, TheNextIdIsOneMoreThanTheLargest) {
  EXPECT_EQ(NextSnapshotId({}), "1");
  EXPECT_EQ(NextSnapshotId(Named({{"7", ""}, {"3", ""}, {"x", ""}, {"", ""}})), "8");
  EXPECT_EQ(NextSnapshotId(Named({{"12 monkeys", ""}})), "13");
  EXPECT_EQ(NextSnapshotId(Named({{"18446744073709551614", ""}})), "18446744073709551615");
  EXPECT_EQ(NextSnapshotId(Named({{"18446744073709551615", ""}, {"2", ""}})), "3");
  EXPECT_EQ(NextSnapshotId(Named({{"99999999999999999999", ""}, {"2", ""}})), "3");
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
  EXPECT_EQ(table.status().message(),
            "Too much extra metadata in snapshot table entry 1\n"
            "You can force-remove this extra metadata with qemu-img check -r all");
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
