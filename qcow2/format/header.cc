#include "qcow2/format/header.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/header_layout.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

using absl::InvalidArgumentError;
using absl::OutOfRangeError;
using absl::StrFormat;
using absl::UnimplementedError;

// What ParseHeader passes from check to check. `cluster` is cut to the file's end and to one
// cluster; `raw` has zeroes where the header is shorter than its last known field.
struct Parsing {
  std::span<const std::byte> cluster;
  uint64_t file_size;
  HeaderOnDisk raw;
  uint64_t header_length;
  uint64_t extensions_end;
};

absl::Status CheckIdentity(uint32_t magic, uint32_t version, uint32_t cluster_bits) {
  if (magic != kQcow2Magic) return InvalidArgumentError("Image is not in qcow2 format");
  if (version < 2 || version > 3) {
    return UnimplementedError(StrFormat("Unsupported qcow2 version %d", version));
  }
  if (cluster_bits < kMinClusterBits || cluster_bits > kMaxClusterBits) {
    return InvalidArgumentError(StrFormat("Unsupported cluster size: 2^%d", cluster_bits));
  }
  return absl::OkStatus();
}

absl::Status Truncated(uint64_t needed, uint64_t file_size) {
  return InvalidArgumentError(
      StrFormat("Image is truncated: its header has %d bytes, the file %d", needed, file_size));
}

// The fixed fields, and how long the header is.
absl::StatusOr<Parsing> ReadFixedFields(std::span<const std::byte> header_cluster,
                                        uint64_t file_size) {
  ASSIGN_OR_RETURN(const uint64_t cluster_bytes, ReadClusterBytes(header_cluster));
  const uint64_t bytes_there = std::min<uint64_t>(cluster_bytes, file_size);
  RINGCOW_INVARIANT(header_cluster.size() >= bytes_there, "the first cluster was not read");

  Parsing parsing = {.cluster = header_cluster.first(bytes_there),
                     .file_size = file_size,
                     .raw = {},
                     .header_length = kHeaderLengthV2,
                     .extensions_end = cluster_bytes};
  std::memcpy(&parsing.raw, parsing.cluster.data(), std::min(bytes_there, sizeof(HeaderOnDisk)));
  if (parsing.raw.version.value() >= 3) {
    if (bytes_there < kMinHeaderLengthV3) return Truncated(kMinHeaderLengthV3, file_size);
    parsing.header_length = parsing.raw.header_length.value();
    if (parsing.header_length < kMinHeaderLengthV3) {
      return InvalidArgumentError("qcow2 header too short");
    }
    if (parsing.header_length > cluster_bytes) {
      return InvalidArgumentError("qcow2 header exceeds cluster size");
    }
    if (!IsAligned(parsing.header_length, 8)) {
      return InvalidArgumentError(
          StrFormat("qcow2 header length %d is not a multiple of 8", parsing.header_length));
    }
  }
  if (bytes_there < parsing.header_length) return Truncated(parsing.header_length, file_size);

  // What lies behind a short header is an extension, not a field.
  if (parsing.header_length < sizeof(HeaderOnDisk)) {
    auto* raw = reinterpret_cast<std::byte*>(&parsing.raw);
    std::fill(raw + parsing.header_length, raw + sizeof(HeaderOnDisk), std::byte{0});
  }
  return parsing;
}

absl::Status ReadCompressionType(const Parsing& parsing, Header& header) {
  const uint8_t type = parsing.raw.compression_type;
  if (type > static_cast<uint8_t>(CompressionType::kZstd)) {
    return UnimplementedError(StrFormat("qcow2: unknown compression type: %d", type));
  }
  header.compression_type = static_cast<CompressionType>(type);
  const bool flagged = (header.incompatible_features & kIncompatibleCompressionType) != 0;
  if (header.compression_type == CompressionType::kZlib && flagged) {
    return InvalidArgumentError("qcow2: Compression type incompatible feature bit must not be set");
  }
  if (header.compression_type != CompressionType::kZlib && !flagged) {
    return InvalidArgumentError("qcow2: Compression type incompatible feature bit must be set");
  }
  return absl::OkStatus();
}

absl::Status CheckSubclusters(const Header& header) {
  if (!header.extended_l2() || header.cluster_bits >= kMinExtendedL2ClusterBits) {
    return absl::OkStatus();
  }
  return InvalidArgumentError(StrFormat("Unsupported subcluster size: %d",
                                        header.cluster_bytes() / kSubclustersPerCluster));
}

absl::Status ReadRefcountOrderAndCrypto(const Parsing& parsing, Header& header) {
  if (header.version >= 3) {
    header.refcount_order = parsing.raw.refcount_order.value();
    if (header.refcount_order > kMaxRefcountOrder) {
      return InvalidArgumentError("Reference count entry width too large; may not exceed 64 bits");
    }
  }
  const uint32_t crypt_method = parsing.raw.crypt_method.value();
  if (crypt_method > static_cast<uint32_t>(CryptMethod::kLuks)) {
    return InvalidArgumentError(StrFormat("Unsupported encryption method %d", crypt_method));
  }
  header.crypt_method = static_cast<CryptMethod>(crypt_method);
  return absl::OkStatus();
}

struct TableBounds {
  absl::string_view name;
  uint64_t offset = 0;
  uint64_t entries = 0;
  uint64_t entry_bytes = 0;
  uint64_t max_bytes = 0;
};

// An empty table is not looked at, so its offset need only be aligned.
absl::Status CheckTable(const TableBounds& table, uint64_t cluster_bytes) {
  if (table.entries > table.max_bytes / table.entry_bytes) {
    return OutOfRangeError(StrFormat("%s too large", table.name));
  }
  const uint64_t bytes = table.entries * table.entry_bytes;
  // Offset 0 is the header's.
  if (table.offset > kMaxFileOffset - bytes || !IsAligned(table.offset, cluster_bytes) ||
      (table.offset == 0 && table.entries != 0)) {
    return InvalidArgumentError(StrFormat("%s offset invalid", table.name));
  }
  return absl::OkStatus();
}

absl::Status CheckTableInFile(const TableBounds& table, uint64_t file_size) {
  const uint64_t bytes = table.entries * table.entry_bytes;
  if (bytes == 0 || (table.offset <= file_size && bytes <= file_size - table.offset)) {
    return absl::OkStatus();
  }
  return InvalidArgumentError(
      StrFormat("%s at offset %#x (%d bytes) lies beyond the end of the file (%d bytes)",
                table.name, table.offset, bytes, file_size));
}

absl::Status ReadRefcountTable(const Parsing& parsing, HeaderChecks checks, Header& header) {
  header.refcount_table_offset = HostOffset(parsing.raw.refcount_table_offset.value());
  header.refcount_table_clusters = parsing.raw.refcount_table_clusters.value();
  const bool for_io = checks == HeaderChecks::kForIo;
  if (header.refcount_table_clusters == 0 && for_io) {
    return InvalidArgumentError("Image does not contain a reference count table");
  }
  const TableBounds table = {.name = "Reference count table",
                             .offset = header.refcount_table_offset.value(),
                             .entries = header.refcount_table_clusters,
                             .entry_bytes = header.cluster_bytes(),
                             .max_bytes = kMaxRefcountTableBytes};
  const absl::Status valid = CheckTable(table, header.cluster_bytes());
  const bool is_in_header = for_io && table.offset == 0 && !absl::IsOutOfRange(valid);
  if (!is_in_header) RETURN_IF_ERROR(valid);
  return for_io ? CheckTableInFile(table, parsing.file_size) : absl::OkStatus();
}

absl::Status ReadSnapshotTable(const Parsing& parsing, HeaderChecks checks, Header& header) {
  header.snapshots_offset = HostOffset(parsing.raw.snapshots_offset.value());
  header.nb_snapshots = parsing.raw.nb_snapshots.value();
  if (checks == HeaderChecks::kForRepair) return absl::OkStatus();
  const TableBounds table = {.name = "Snapshot table",
                             .offset = header.snapshots_offset.value(),
                             .entries = header.nb_snapshots,
                             .entry_bytes = kSnapshotHeaderBytes,
                             .max_bytes = kSnapshotHeaderBytes * kMaxSnapshots};
  // Behind the end of the file there are snapshots without content.
  return CheckTable(table, header.cluster_bytes());
}

absl::Status ReadL1Table(const Parsing& parsing, Header& header) {
  header.virtual_size = parsing.raw.size.value();
  header.l1_table_offset = HostOffset(parsing.raw.l1_table_offset.value());
  header.l1_entries = parsing.raw.l1_size.value();
  const TableBounds table = {.name = "Active L1 table",
                             .offset = header.l1_table_offset.value(),
                             .entries = header.l1_entries,
                             .entry_bytes = kTableEntryBytes,
                             .max_bytes = kMaxL1Bytes};
  RETURN_IF_ERROR(CheckTable(table, header.cluster_bytes()));

  // Extended L2 entries take twice the room, so that an L2 table maps half as much.
  const uint64_t l2_entries = header.cluster_bytes() / (header.extended_l2() ? 16 : 8);
  const uint64_t entries_needed =
      DivideRoundUp(header.virtual_size, l2_entries << header.cluster_bits);
  if (entries_needed > INT_MAX) return OutOfRangeError("Image is too big");
  if (header.l1_entries < entries_needed) return InvalidArgumentError("L1 table is too small");
  return CheckTableInFile(table, parsing.file_size);
}

absl::Status CheckExternalData(const Header& header) {
  if (header.raw_external_data() && !header.external_data()) {
    return InvalidArgumentError("data-file-raw requires a data file");
  }
  return absl::OkStatus();
}

absl::Status ReadBackingFile(const Parsing& parsing, Header& header) {
  const uint64_t offset = parsing.raw.backing_file_offset.value();
  if (offset == 0) return absl::OkStatus();
  const uint64_t length = parsing.raw.backing_file_size.value();
  if (length > std::min<uint64_t>(kMaxBackingFileNameBytes, header.cluster_bytes() - offset)) {
    return InvalidArgumentError("Backing file name too long");
  }
  if (offset > parsing.cluster.size() || length > parsing.cluster.size() - offset) {
    return InvalidArgumentError(
        StrFormat("Backing file name at offset %#x (%d bytes) lies beyond the end of the file",
                  offset, length));
  }
  header.backing_file.assign(reinterpret_cast<const char*>(parsing.cluster.data()) + offset,
                             length);
  return absl::OkStatus();
}

void ReadFeaturesAndUnknownFields(const Parsing& parsing, Header& header) {
  header.incompatible_features = parsing.raw.incompatible_features.value();
  header.compatible_features = parsing.raw.compatible_features.value();
  header.autoclear_features = parsing.raw.autoclear_features.value();
  header.padding = parsing.raw.padding;
  if (parsing.header_length > sizeof(HeaderOnDisk)) {
    const auto tail = parsing.cluster.first(parsing.header_length).subspan(sizeof(HeaderOnDisk));
    header.unknown_fields.assign(tail.begin(), tail.end());
  }
}

HeaderOnDisk FixedFieldsOf(const Header& header) {
  return {.magic = Be32(kQcow2Magic),
          .version = Be32(header.version),
          .backing_file_offset = {},
          .backing_file_size = {},
          .cluster_bits = Be32(header.cluster_bits),
          .size = Be64(header.virtual_size),
          .crypt_method = Be32(static_cast<uint32_t>(header.crypt_method)),
          .l1_size = Be32(header.l1_entries),
          .l1_table_offset = Be64(header.l1_table_offset.value()),
          .refcount_table_offset = Be64(header.refcount_table_offset.value()),
          .refcount_table_clusters = Be32(header.refcount_table_clusters),
          .nb_snapshots = Be32(header.nb_snapshots),
          .snapshots_offset = Be64(header.snapshots_offset.value()),
          .incompatible_features = Be64(header.incompatible_features),
          .compatible_features = Be64(header.compatible_features),
          .autoclear_features = Be64(header.autoclear_features),
          .refcount_order = Be32(header.refcount_order),
          .header_length =
              Be32(static_cast<uint32_t>(sizeof(HeaderOnDisk) + header.unknown_fields.size())),
          .compression_type = static_cast<uint8_t>(header.compression_type),
          .padding = header.padding};
}

}  // namespace

absl::StatusOr<uint64_t> ReadClusterBytes(std::span<const std::byte> prefix) {
  if (prefix.size() < sizeof(uint32_t) || LoadBe<uint32_t>(prefix.data()) != kQcow2Magic) {
    return InvalidArgumentError("Image is not in qcow2 format");
  }
  if (prefix.size() < kHeaderLengthV2) return Truncated(kHeaderLengthV2, prefix.size());
  HeaderOnDisk raw;
  std::memcpy(&raw, prefix.data(), kHeaderLengthV2);
  RETURN_IF_ERROR(CheckIdentity(raw.magic.value(), raw.version.value(), raw.cluster_bits.value()));
  return uint64_t{1} << raw.cluster_bits.value();
}

absl::StatusOr<Header> ParseHeader(std::span<const std::byte> header_cluster, uint64_t file_size,
                                   HeaderChecks checks) {
  ASSIGN_OR_RETURN(Parsing parsing, ReadFixedFields(header_cluster, file_size));
  Header header;
  header.version = parsing.raw.version.value();
  header.cluster_bits = parsing.raw.cluster_bits.value();

  const uint64_t backing_file_offset = parsing.raw.backing_file_offset.value();
  if (backing_file_offset > header.cluster_bytes() ||
      (backing_file_offset != 0 && backing_file_offset < parsing.header_length)) {
    return InvalidArgumentError("Invalid backing file offset");
  }
  if (backing_file_offset != 0) parsing.extensions_end = backing_file_offset;

  ReadFeaturesAndUnknownFields(parsing, header);
  RETURN_IF_ERROR(ReadCompressionType(parsing, header));

  // Unknown features come before everything whose meaning they may change, a broken list of
  // extensions included.
  absl::StatusOr<HeaderExtensions> extensions =
      ParseHeaderExtensions(parsing.cluster, parsing.header_length, parsing.extensions_end);
  RETURN_IF_ERROR(CheckIncompatibleFeatures(
      header.incompatible_features,
      extensions.ok() ? extensions->feature_names : std::vector<FeatureName>()));

  RETURN_IF_ERROR(CheckSubclusters(header));
  RETURN_IF_ERROR(ReadRefcountOrderAndCrypto(parsing, header));
  RETURN_IF_ERROR(ReadRefcountTable(parsing, checks, header));
  RETURN_IF_ERROR(ReadSnapshotTable(parsing, checks, header));
  RETURN_IF_ERROR(ReadL1Table(parsing, header));
  ASSIGN_OR_RETURN(header.extensions, std::move(extensions));
  RETURN_IF_ERROR(CheckExternalData(header));
  RETURN_IF_ERROR(ReadBackingFile(parsing, header));
  return header;
}

absl::StatusOr<std::vector<std::byte>> SerializeHeader(const Header& header) {
  RINGCOW_INVARIANT(
      header.cluster_bits >= kMinClusterBits && header.cluster_bits <= kMaxClusterBits,
      "no such cluster size");
  RINGCOW_INVARIANT(
      header.version == 3 || (header.version == 2 && header.refcount_order == 4 &&
                              (header.incompatible_features | header.compatible_features |
                               header.autoclear_features) == 0),
      "version 2 has no features and 16 bit refcounts");
  if (header.backing_file.size() > kMaxBackingFileNameBytes) {
    return OutOfRangeError("Backing file name too long");
  }

  HeaderOnDisk raw = FixedFieldsOf(header);
  std::vector<std::byte> bytes(header.version == 2 ? kHeaderLengthV2 : sizeof(raw));
  if (header.version >= 3) {
    bytes.insert(bytes.end(), header.unknown_fields.begin(), header.unknown_fields.end());
  }
  const bool with_feature_names = header.version >= 3 && header.cluster_bytes() > 4096;
  AppendHeaderExtensions(header.extensions, with_feature_names, bytes);
  if (!header.backing_file.empty()) {
    raw.backing_file_offset = Be64(bytes.size());
    raw.backing_file_size = Be32(static_cast<uint32_t>(header.backing_file.size()));
    const auto name = std::as_bytes(std::span(header.backing_file));
    bytes.insert(bytes.end(), name.begin(), name.end());
  }
  std::memcpy(bytes.data(), &raw, header.version == 2 ? kHeaderLengthV2 : sizeof(raw));

  if (bytes.size() > header.cluster_bytes()) {
    return OutOfRangeError(StrFormat(
        "The header with its extensions and backing file name takes %d bytes, more than a cluster "
        "(%d bytes)",
        bytes.size(), header.cluster_bytes()));
  }
  bytes.resize(header.cluster_bytes());
  return bytes;
}

absl::StatusOr<Geometry> GeometryOf(const Header& header) {
  return Geometry::Create({.version = header.version,
                           .cluster_bits = header.cluster_bits,
                           .refcount_order = header.refcount_order,
                           .virtual_size = AlignDown(header.virtual_size, kSectorBytes),
                           .extended_l2 = header.extended_l2()});
}

}  // namespace ringcow
