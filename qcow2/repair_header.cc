#include "qcow2/repair_header.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/header_layout.h"

namespace ringcow {
namespace {

constexpr HostOffset kRefcountTableField(offsetof(HeaderOnDisk, refcount_table_offset));
constexpr HostOffset kSnapshotTableField(offsetof(HeaderOnDisk, nb_snapshots));
constexpr HostOffset kIncompatibleField(offsetof(HeaderOnDisk, incompatible_features));
constexpr HostOffset kAutoclearField(offsetof(HeaderOnDisk, autoclear_features));

Task<absl::Status> WriteField(Disk& disk, HostOffset field, std::span<const std::byte> bytes) {
  CO_RETURN_IF_ERROR(co_await disk.Write(field, bytes, Content::kHeader));
  co_return co_await disk.Fdatasync();
}

Task<absl::Status> WriteBits(Disk& disk, HostOffset field, uint64_t bits) {
  std::array<std::byte, sizeof(bits)> bytes = {};
  StoreBe<uint64_t>(bytes.data(), bits);
  co_return co_await WriteField(disk, field, bytes);
}

}  // namespace

Task<absl::Status> ClearUnknownAutoclear(Disk& disk, const Header& header) {
  const uint64_t kept = header.autoclear_features & (kAutoclearBitmaps | kAutoclearRawExternalData);
  if (kept == header.autoclear_features) co_return absl::OkStatus();
  co_return co_await WriteBits(disk, kAutoclearField, kept);
}

Task<absl::Status> SwitchRefcountTable(Disk& disk, const RefcountTablePlace& place) {
  std::array<std::byte, sizeof(uint64_t) + sizeof(uint32_t)> bytes = {};
  StoreBe<uint64_t>(bytes.data(), place.offset.value());
  StoreBe<uint32_t>(bytes.data() + sizeof(uint64_t), place.clusters);
  co_return co_await WriteField(disk, kRefcountTableField, bytes);
}

Task<absl::Status> SwitchSnapshotTable(Disk& disk, HostOffset offset, uint32_t count) {
  std::array<std::byte, sizeof(uint32_t) + sizeof(uint64_t)> bytes = {};
  StoreBe<uint32_t>(bytes.data(), count);
  StoreBe<uint64_t>(bytes.data() + sizeof(uint32_t), offset.value());
  co_return co_await WriteField(disk, kSnapshotTableField, bytes);
}

Task<absl::Status> ClearDamageBits(Disk& disk, const Header& header) {
  if (!header.dirty() && !header.corrupt()) co_return absl::OkStatus();
  co_return co_await WriteBits(
      disk, kIncompatibleField,
      header.incompatible_features & ~(kIncompatibleDirty | kIncompatibleCorrupt));
}

}  // namespace ringcow
