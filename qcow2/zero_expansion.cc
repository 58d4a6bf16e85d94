#include "qcow2/zero_expansion.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/header.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/metadata.h"
#include "qcow2/read_header.h"
#include "qcow2/read_snapshots.h"

namespace ringcow {
namespace {

constexpr uint64_t kZeroesAtOnce = 1 << 20;

struct L1Place {
  HostOffset offset;
  uint64_t entries = 0;
};

// The offsets of L2 tables, each once however many L1 tables refer to it.
Task<absl::Status> AddL2Tables(Disk& disk, const Geometry& geometry, L1Place l1,
                               std::set<HostOffset>& tables) {
  const AlignedBuffer table(l1.entries * sizeof(uint64_t));
  CO_RETURN_IF_ERROR(co_await disk.Read(l1.offset, table.span(), Content::kL1));
  for (uint64_t i = 0; i < l1.entries; ++i) {
    const L1Entry entry = L1Entry::FromRaw(LoadBe64At(table.span(), i));
    CO_RETURN_IF_ERROR(Named(disk, entry.Validate(geometry, i)));
    if (const auto l2 = entry.l2_table(); l2.has_value()) tables.insert(*l2);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> AddSnapshotTables(Disk& disk, const Header& header, const Geometry& geometry,
                                     std::set<HostOffset>& tables) {
  CO_ASSIGN_OR_RETURN(const std::vector<Snapshot> snapshots, co_await ReadSnapshots(disk, header));
  for (const Snapshot& snapshot : snapshots) {
    CO_RETURN_IF_ERROR(Named(disk, ValidateSnapshotL1Table(snapshot, geometry)));
    CO_RETURN_IF_ERROR(co_await AddL2Tables(
        disk, geometry, {snapshot.l1_table_offset, snapshot.l1_entries}, tables));
  }
  co_return absl::OkStatus();
}

// A torn write is as good as a whole one: each entry means the same before and after.
Task<absl::Status> ForgetPlainZeroesIn(Disk& disk, const Geometry& geometry, HostOffset table) {
  const AlignedBuffer bytes(geometry.cluster_bytes());
  CO_RETURN_IF_ERROR(co_await disk.Read(table, bytes.span(), Content::kL2));
  bool has_changed = false;
  for (uint64_t i = 0; i < bytes.size() / sizeof(uint64_t); ++i) {
    const L2Entry entry = L2Entry::FromRaw(LoadBe64At(bytes.span(), i));
    if (entry.kind() != L2Entry::Kind::kZeroPlain) continue;
    StoreBe64At(bytes.span(), i, L2Entry::Unallocated().raw());
    has_changed = true;
  }
  if (!has_changed) co_return absl::OkStatus();
  co_return co_await disk.Write(table, bytes.span(), Content::kL2);
}

Task<absl::Status> WriteZeroBytes(Image& image, uint64_t offset, uint64_t length) {
  const std::vector<std::byte> zeroes(std::min(length, kZeroesAtOnce));
  for (uint64_t done = 0; done < length; done += zeroes.size()) {
    const auto bytes = std::span(zeroes).first(std::min<uint64_t>(length - done, zeroes.size()));
    CO_RETURN_IF_ERROR(co_await image.Write(GuestOffset(offset + done), bytes));
  }
  co_return absl::OkStatus();
}

}  // namespace

Task<absl::Status> ExpandZeroClusters(Image& image,
                                      std::function<void(uint64_t done, uint64_t all)> progress) {
  const bool has_backing = !image.header().backing_file.empty();
  const uint64_t per_table = image.geometry().bytes_per_l2_table();
  const uint64_t tables = DivideRoundUp(image.size(), per_table);
  for (uint64_t offset = 0; offset < image.size();) {
    CO_ASSIGN_OR_RETURN(const GuestExtent extent,
                        co_await image.Find(GuestOffset(offset), image.size() - offset));
    // Preallocated clusters stay so.
    if (extent.allocated && extent.zero && (has_backing || extent.host.has_value())) {
      CO_RETURN_IF_ERROR(co_await WriteZeroBytes(image, offset, extent.bytes));
    }
    const uint64_t done_before = offset / per_table;
    offset += extent.bytes;
    const uint64_t done = offset < image.size() ? offset / per_table : tables;
    if (progress && done > done_before) progress(done, tables);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ForgetPlainZeroes(Disk& disk) {
  CO_ASSIGN_OR_RETURN(const Header header, co_await ReadHeader(disk));
  CO_ASSIGN_OR_RETURN(const Geometry geometry, GeometryOf(header));
  std::set<HostOffset> tables;
  CO_RETURN_IF_ERROR(co_await AddSnapshotTables(disk, header, geometry, tables));
  CO_RETURN_IF_ERROR(
      co_await AddL2Tables(disk, geometry, {header.l1_table_offset, header.l1_entries}, tables));
  for (const HostOffset table : tables) {
    CO_RETURN_IF_ERROR(co_await ForgetPlainZeroesIn(disk, geometry, table));
  }
  co_return co_await disk.Fdatasync();
}

}  // namespace ringcow
