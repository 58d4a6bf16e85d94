#include "qcow2/format/test_images.h"

#include <algorithm>
#include <span>

#include "engine/invariant.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/header_layout.h"

namespace ringcow {
namespace {

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
constexpr auto kOutOfRange = absl::StatusCode::kOutOfRange;

#define AT(field) offsetof(HeaderOnDisk, field)

template <typename T>
Patch BigEndianPatch(uint64_t offset, T value) {
  std::vector<std::byte> bytes(sizeof(T));
  StoreBe<T>(bytes.data(), value);
  return {offset, bytes};
}

std::vector<BrokenHeader> BrokenIdentities() {
  return {
      {.name = "Empty",
       .patches = {},
       .file_bytes = 0,
       .code = kInvalid,
       .message = "Image is not in qcow2 format"},
      {.name = "ThreeBytes",
       .patches = {},
       .file_bytes = 3,
       .code = kInvalid,
       .message = "Image is not in qcow2 format"},
      {.name = "Magic",
       .patches = {Patch8(0, 'q')},
       .code = kInvalid,
       .message = "Image is not in qcow2 format"},
      {.name = "Version0",
       .patches = {Patch32(AT(version), 0)},
       .code = kUnimplemented,
       .message = "Unsupported qcow2 version 0"},
      {.name = "Version1",
       .patches = {Patch32(AT(version), 1)},
       .code = kUnimplemented,
       .message = "Unsupported qcow2 version 1"},
      {.name = "Version4",
       .patches = {Patch32(AT(version), 4)},
       .code = kUnimplemented,
       .message = "Unsupported qcow2 version 4"},
      {.name = "VersionMax",
       .patches = {Patch32(AT(version), 0xffffffff)},
       .code = kUnimplemented,
       .message = "Unsupported qcow2 version 4294967295"},
      {.name = "ClusterBits8",
       .patches = {Patch32(AT(cluster_bits), 8)},
       .code = kInvalid,
       .message = "Unsupported cluster size: 2^8"},
      {.name = "ClusterBits22",
       .patches = {Patch32(AT(cluster_bits), 22)},
       .code = kInvalid,
       .message = "Unsupported cluster size: 2^22"},
      {.name = "ClusterBitsMax",
       .patches = {Patch32(AT(cluster_bits), 0xffffffff)},
       .code = kInvalid,
       .message = "Unsupported cluster size: 2^4294967295"},
  };
}

std::vector<BrokenHeader> BrokenLengths() {
  return {
      {.name = "CutInVersion2Fields",
       .version = 2,
       .patches = {},
       .file_bytes = 71,
       .code = kInvalid,
       .message = "Image is truncated: its header has 72 bytes, the file 71",
       .same_in_qemu = false},
      {.name = "CutInVersion3Fields",
       .patches = {},
       .file_bytes = 103,
       .code = kInvalid,
       .message = "Image is truncated: its header has 104 bytes, the file 103",
       .same_in_qemu = false},
      {.name = "CutBeforeHeaderLength",
       .patches = {},
       .file_bytes = 111,
       .code = kInvalid,
       .message = "Image is truncated: its header has 112 bytes, the file 111",
       .same_in_qemu = false},
      {.name = "HeaderLength0",
       .patches = {Patch32(AT(header_length), 0)},
       .code = kInvalid,
       .message = "qcow2 header too short"},
      {.name = "HeaderLength103",
       .patches = {Patch32(AT(header_length), 103)},
       .code = kInvalid,
       .message = "qcow2 header too short"},
      {.name = "HeaderLengthUnaligned",
       .patches = {Patch32(AT(header_length), 113)},
       .code = kInvalid,
       .message = "qcow2 header length 113 is not a multiple of 8",
       .same_in_qemu = false},
      {.name = "HeaderLengthOverCluster",
       .patches = {Patch32(AT(header_length), 65544)},
       .code = kInvalid,
       .message = "qcow2 header exceeds cluster size"},
      {.name = "HeaderLengthMax",
       .patches = {Patch32(AT(header_length), 0xffffffff)},
       .code = kInvalid,
       .message = "qcow2 header exceeds cluster size"},
  };
}

std::vector<BrokenHeader> BrokenFeatures() {
  constexpr uint64_t kNamedBit = uint64_t{1} << 40;
  const std::vector<Patch> feature_name = {Patch8(120, 0), Patch8(121, 40),
                                           PatchText(122, "sub bit"), Patch8(129, 0)};
  std::vector<Patch> named = feature_name;
  named.push_back(Patch64(AT(incompatible_features), kNamedBit));
  std::vector<Patch> named_and_nameless = feature_name;
  named_and_nameless.push_back(
      Patch64(AT(incompatible_features), kNamedBit | 0x8000000000000020 | kIncompatibleDirty));
  return {
      {.name = "NamelessFeature",
       .patches = {Patch64(AT(incompatible_features), uint64_t{1} << 63)},
       .code = kUnimplemented,
       .message = "Unsupported qcow2 feature(s): Unknown incompatible feature: 8000000000000000"},
      {.name = "NamedFeature",
       .patches = named,
       .code = kUnimplemented,
       .message = "Unsupported qcow2 feature(s): sub bit"},
      {.name = "NamedAndNamelessFeatures",
       .patches = named_and_nameless,
       .code = kUnimplemented,
       .message =
           "Unsupported qcow2 feature(s): sub bit, Unknown incompatible feature: 8000000000000020"},
      {.name = "UnknownFeatureAndBrokenExtensions",
       .patches = {Patch64(AT(incompatible_features), 32), Patch32(116, 0xffffffff)},
       .code = kUnimplemented,
       .message = "Unsupported qcow2 feature(s): Unknown incompatible feature: 20"},
      {.name = "UnknownCompressionType",
       .patches = {Patch64(AT(incompatible_features), kIncompatibleCompressionType),
                   Patch8(AT(compression_type), 2)},
       .code = kUnimplemented,
       .message = "qcow2: unknown compression type: 2"},
      {.name = "ZstdWithoutBit",
       .patches = {Patch8(AT(compression_type), 1)},
       .code = kInvalid,
       .message = "qcow2: Compression type incompatible feature bit must be set"},
      {.name = "ZlibWithBit",
       .patches = {Patch64(AT(incompatible_features), kIncompatibleCompressionType)},
       .code = kInvalid,
       .message = "qcow2: Compression type incompatible feature bit must not be set"},
      {.name = "SubclustersTooSmall",
       .patches = {Patch32(AT(cluster_bits), 13),
                   Patch64(AT(incompatible_features), kIncompatibleExtendedL2)},
       .code = kInvalid,
       .message = "Unsupported subcluster size: 256"},
      {.name = "RawDataWithoutDataFile",
       .patches = {Patch64(AT(autoclear_features), kAutoclearRawExternalData)},
       .code = kInvalid,
       .message = "data-file-raw requires a data file"},
      {.name = "RefcountOrder7",
       .patches = {Patch32(AT(refcount_order), 7)},
       .code = kInvalid,
       .message = "Reference count entry width too large; may not exceed 64 bits"},
      {.name = "RefcountOrderMax",
       .patches = {Patch32(AT(refcount_order), 0xffffffff)},
       .code = kInvalid,
       .message = "Reference count entry width too large; may not exceed 64 bits"},
      {.name = "CryptMethod3",
       .patches = {Patch32(AT(crypt_method), 3)},
       .code = kInvalid,
       .message = "Unsupported encryption method 3"},
  };
}

std::vector<BrokenHeader> BrokenRefcountTables() {
  const auto offset = [](uint64_t value) { return Patch64(AT(refcount_table_offset), value); };
  const auto clusters = [](uint32_t value) { return Patch32(AT(refcount_table_clusters), value); };
  const std::string invalid = "Reference count table offset invalid";
  return {
      {.name = "NoRefcountTable",
       .patches = {clusters(0)},
       .code = kInvalid,
       .message = "Image does not contain a reference count table"},
      {.name = "RefcountTableOverLimit",
       .patches = {clusters(129)},
       .code = kOutOfRange,
       .message = "Reference count table too large"},
      {.name = "RefcountTableMax",
       .patches = {clusters(0xffffffff)},
       .code = kOutOfRange,
       .message = "Reference count table too large"},
      {.name = "RefcountTableUnaligned",
       .patches = {offset(0x10200)},
       .code = kInvalid,
       .message = invalid},
      {.name = "RefcountTableOffsetMax",
       .patches = {offset(0xffffffffffff0000)},
       .code = kInvalid,
       .message = invalid},
      {.name = "RefcountTableOffsetWraps",
       .patches = {offset(0x7fffffffffff0000), clusters(2)},
       .code = kInvalid,
       .message = invalid},
      {.name = "RefcountTableBeyondFile",
       .patches = {clusters(3)},
       .code = kInvalid,
       .message = "Reference count table at offset 0x10000 (196608 bytes) lies beyond the end of "
                  "the file (196616 bytes)",
       .same_in_qemu = false},
  };
}

std::vector<BrokenHeader> BrokenSnapshotTables() {
  const auto offset = [](uint64_t value) { return Patch64(AT(snapshots_offset), value); };
  const auto count = [](uint32_t value) { return Patch32(AT(nb_snapshots), value); };
  return {
      {.name = "SnapshotsOverLimit",
       .patches = {offset(0x10000), count(65537)},
       .code = kOutOfRange,
       .message = "Snapshot table too large"},
      {.name = "SnapshotsMax",
       .patches = {offset(0x10000), count(0xffffffff)},
       .code = kOutOfRange,
       .message = "Snapshot table too large"},
      {.name = "SnapshotsUnaligned",
       .patches = {offset(0x12345), count(1)},
       .code = kInvalid,
       .message = "Snapshot table offset invalid"},
      {.name = "NoSnapshotsButUnaligned",
       .patches = {offset(0x12345)},
       .code = kInvalid,
       .message = "Snapshot table offset invalid"},
      {.name = "SnapshotsOffsetMax",
       .patches = {offset(0xffffffffffff0000), count(1)},
       .code = kInvalid,
       .message = "Snapshot table offset invalid"},
      {.name = "SnapshotsOnHeader",
       .patches = {count(1)},
       .code = kInvalid,
       .message = "Snapshot table offset invalid",
       .same_in_qemu = false},
  };
}

std::vector<BrokenHeader> BrokenL1Tables() {
  const auto offset = [](uint64_t value) { return Patch64(AT(l1_table_offset), value); };
  const auto entries = [](uint32_t value) { return Patch32(AT(l1_size), value); };
  const auto size = [](uint64_t value) { return Patch64(AT(size), value); };
  const std::string invalid = "Active L1 table offset invalid";
  return {
      {.name = "L1OverLimit",
       .patches = {entries(0x400001)},
       .code = kOutOfRange,
       .message = "Active L1 table too large"},
      {.name = "L1Max",
       .patches = {entries(0xffffffff)},
       .code = kOutOfRange,
       .message = "Active L1 table too large"},
      {.name = "L1Unaligned", .patches = {offset(0x30200)}, .code = kInvalid, .message = invalid},
      {.name = "L1OffsetMax",
       .patches = {offset(0xffffffffffff0000)},
       .code = kInvalid,
       .message = invalid},
      {.name = "L1OffsetWraps",
       .patches = {offset(0x7fffffffffff0000), entries(0x400000)},
       .code = kInvalid,
       .message = invalid},
      {.name = "L1OnHeader",
       .patches = {offset(0)},
       .code = kInvalid,
       .message = invalid,
       .same_in_qemu = false},
      {.name = "L1TooSmall",
       .patches = {size((uint64_t{1} << 29) + 512)},
       .code = kInvalid,
       .message = "L1 table is too small"},
      {.name = "L1Missing",
       .patches = {entries(0)},
       .code = kInvalid,
       .message = "L1 table is too small"},
      {.name = "SizeTooBig",
       .patches = {size(uint64_t{1} << 60)},
       .code = kOutOfRange,
       .message = "Image is too big"},
      {.name = "SizeMax",
       .patches = {size(~uint64_t{0})},
       .code = kOutOfRange,
       .message = "Image is too big",
       .same_in_qemu = false},
      {.name = "ExtendedL2MapsHalf",
       .patches = {size((uint64_t{1} << 28) + 512),
                   Patch64(AT(incompatible_features), kIncompatibleExtendedL2)},
       .code = kInvalid,
       .message = "L1 table is too small"},
      {.name = "L1BeyondFile",
       .patches = {entries(2)},
       .code = kInvalid,
       .message = "Active L1 table at offset 0x30000 (16 bytes) lies beyond the end of the file "
                  "(196616 bytes)",
       .same_in_qemu = false},
  };
}

std::vector<BrokenHeader> BrokenExtensions() {
  return {
      {.name = "ExtensionMax",
       .patches = {Patch32(112, 0x12345678), Patch32(116, 0xffffffff)},
       .code = kInvalid,
       .message = "Header extension too large"},
      {.name = "ExtensionOneByteTooLong",
       .patches = {Patch32(112, 0x12345678), Patch32(116, 65536 - 120 + 1)},
       .code = kInvalid,
       .message = "Header extension too large"},
      {.name = "ExtensionIntoBackingFileName",
       .patches = {Patch64(AT(backing_file_offset), 128), Patch32(AT(backing_file_size), 1),
                   Patch32(112, 0x12345678), Patch32(116, 9)},
       .code = kInvalid,
       .message = "Header extension too large"},
      {.name = "HalfAnExtensionHeader",
       .patches = {Patch64(AT(backing_file_offset), 116), Patch32(AT(backing_file_size), 1)},
       .code = kInvalid,
       .message = "Header extension too large"},
      {.name = "LongBackingFormat",
       .patches = {Patch32(112, kExtensionBackingFormat), Patch32(116, 16)},
       .code = kInvalid,
       .message = "Backing format name too long: 16 bytes, at most 15 are allowed",
       .same_in_qemu = false},
      {.name = "BackingFileOffsetBeyondCluster",
       .patches = {Patch64(AT(backing_file_offset), 65537)},
       .code = kInvalid,
       .message = "Invalid backing file offset"},
      {.name = "BackingFileOffsetMax",
       .patches = {Patch64(AT(backing_file_offset), ~uint64_t{0})},
       .code = kInvalid,
       .message = "Invalid backing file offset"},
      {.name = "BackingFileNameInHeader",
       .patches = {Patch64(AT(backing_file_offset), 104)},
       .code = kInvalid,
       .message = "Invalid backing file offset",
       .same_in_qemu = false},
      {.name = "BackingFileNameTooLong",
       .patches = {Patch64(AT(backing_file_offset), 0x1000), Patch32(AT(backing_file_size), 1024)},
       .code = kInvalid,
       .message = "Backing file name too long"},
      {.name = "BackingFileNameMax",
       .patches = {Patch64(AT(backing_file_offset), 0x1000),
                   Patch32(AT(backing_file_size), 0xffffffff)},
       .code = kInvalid,
       .message = "Backing file name too long"},
      {.name = "BackingFileNameOverClusterEnd",
       .patches = {Patch64(AT(backing_file_offset), 65536), Patch32(AT(backing_file_size), 1)},
       .code = kInvalid,
       .message = "Backing file name too long"},
  };
}

#undef AT

}  // namespace

Header FreshHeader() {
  Header header;
  header.virtual_size = uint64_t{64} << 20;
  header.refcount_table_offset = HostOffset(0x10000);
  header.refcount_table_clusters = 1;
  header.l1_table_offset = HostOffset(0x30000);
  header.l1_entries = 1;
  return header;
}

Patch Patch8(uint64_t offset, uint8_t value) { return BigEndianPatch(offset, value); }
Patch Patch32(uint64_t offset, uint32_t value) { return BigEndianPatch(offset, value); }
Patch Patch64(uint64_t offset, uint64_t value) { return BigEndianPatch(offset, value); }

Patch PatchText(uint64_t offset, const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {offset, {bytes.begin(), bytes.end()}};
}

void Apply(const std::vector<Patch>& patches, std::vector<std::byte>& bytes) {
  for (const Patch& patch : patches) {
    RINGCOW_INVARIANT(patch.offset + patch.bytes.size() <= bytes.size(), "patch beyond the image");
    std::copy(patch.bytes.begin(), patch.bytes.end(),
              bytes.begin() + static_cast<ptrdiff_t>(patch.offset));
  }
}

std::vector<BrokenHeader> BrokenHeaders() {
  std::vector<BrokenHeader> all;
  for (const auto& some :
       {BrokenIdentities(), BrokenLengths(), BrokenFeatures(), BrokenRefcountTables(),
        BrokenSnapshotTables(), BrokenL1Tables(), BrokenExtensions()}) {
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

std::vector<std::byte> BytesOf(const BrokenHeader& broken) {
  Header header = FreshHeader();
  header.version = broken.version;
  std::vector<std::byte> bytes = *SerializeHeader(header);
  Apply(broken.patches, bytes);
  bytes.resize(std::min<uint64_t>(bytes.size(), broken.file_bytes));
  return bytes;
}

}  // namespace ringcow
