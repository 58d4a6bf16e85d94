#include "qcow2/create.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"
#include "qcow2/allocator.h"
#include "qcow2/deferred_frees.h"
#include "qcow2/format/header.h"
#include "qcow2/format/refcount_block.h"
#include "qcow2/format/refcount_table_entry.h"
#include "qcow2/growth.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/preallocate.h"
#include "qcow2/requests.h"

namespace ringcow {
namespace {

// A fresh image begins with its header, a refcount table of one cluster, and a refcount block.
constexpr uint64_t kInitialClusters = 3;

Header MakeHeader(const CreateOptions& options, const Geometry& geometry) {
  Header header;
  header.version = options.version;
  header.cluster_bits = geometry.cluster_bits();
  header.refcount_order = geometry.refcount_order();
  header.virtual_size = geometry.virtual_size();
  header.compression_type = options.compression_type;
  if (options.compression_type != CompressionType::kZlib) {
    header.incompatible_features |= kIncompatibleCompressionType;
  }
  header.backing_file = options.backing_file;
  if (!options.backing_format.empty()) header.extensions.backing_format = options.backing_format;
  if (options.extended_l2) header.incompatible_features |= kIncompatibleExtendedL2;
  if (!options.data_file.empty()) {
    header.incompatible_features |= kIncompatibleExternalDataFile;
    header.extensions.external_data_file = options.data_file;
  }
  if (options.data_file_raw) header.autoclear_features |= kAutoclearRawExternalData;
  if (options.lazy_refcounts) header.compatible_features |= kCompatibleLazyRefcounts;
  header.refcount_table_offset = HostOffset(geometry.cluster_bytes());
  header.refcount_table_clusters = 1;
  return header;
}

// The first clusters, which the rest is then allocated by.
Task<absl::Status> WriteInitialClusters(Disk& disk, const Header& header,
                                        const Geometry& geometry) {
  CO_ASSIGN_OR_RETURN(const std::vector<std::byte> header_cluster, SerializeHeader(header));
  AlignedBuffer clusters(kInitialClusters * geometry.cluster_bytes());
  std::fill(clusters.span().begin(), clusters.span().end(), std::byte{0});
  std::copy(header_cluster.begin(), header_cluster.end(), clusters.span().begin());
  const uint64_t block = 2 * geometry.cluster_bytes();
  StoreBe64At(clusters.span().subspan(geometry.cluster_bytes()), 0,
              RefcountTableEntry::Block(HostOffset(block)).raw());
  for (uint64_t i = 0; i < kInitialClusters; ++i) {
    SetRefcount(clusters.span().subspan(block), i, geometry.refcount_order(), 1);
  }
  co_return co_await disk.Write(HostOffset(0), clusters.span(), Content::kOther);
}

Task<absl::Status> AddL1Table(Metadata& metadata, Allocator& allocator) {
  const uint64_t bytes = metadata.geometry.l1_entries() * kTableEntryBytes;
  if (bytes == 0) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const AllocatedRun run,
                      co_await allocator.Allocate(metadata.geometry.ClustersFor(bytes)));
  CO_RETURN_IF_ERROR(co_await allocator.refcounts().OrderBefore(metadata.header_table(), run));
  const HostOffset offset = metadata.geometry.OffsetOf(run.first);
  CO_ASSIGN_OR_RETURN(metadata.l1, co_await ResidentTable::MakeEmpty(
                                       metadata.l1_cache, offset, metadata.geometry.l1_entries()));
  for (const TablePin& pin : metadata.l1.pins()) {
    CO_RETURN_IF_ERROR(
        co_await metadata.write_back.SetDependency(metadata.header_table(), pin.table()));
  }
  metadata.header.l1_table_offset = offset;
  metadata.header.l1_entries = static_cast<uint32_t>(metadata.geometry.l1_entries());
  metadata.StoreHeader();
  co_return absl::OkStatus();
}

HostOffset EndOfUsed(const Metadata& metadata, const Allocator& allocator) {
  return std::max(allocator.taken_end(),
                  HostOffset(kInitialClusters * metadata.geometry.cluster_bytes()));
}

// QEMU's fresh image ends with the last entry of its L1 table when that is what comes last, and
// with the last subcluster of the virtual disk when its guest clusters have no more than host
// clusters.
uint64_t EndOfImage(const Metadata& metadata, const Allocator& allocator,
                    Preallocation preallocation) {
  const Geometry& geometry = metadata.geometry;
  const HostOffset end = EndOfUsed(metadata, allocator);
  const bool l1_is_last =
      metadata.l1.end() > geometry.OffsetOf(geometry.ClusterOf(end)) - geometry.cluster_bytes();
  if (l1_is_last) return metadata.l1.end().value();
  if (preallocation != Preallocation::kMetadata || !geometry.extended_l2()) return end.value();
  const uint64_t guest_end = geometry.virtual_size();
  return end.value() - (AlignUp(guest_end, geometry.cluster_bytes()) -
                        AlignUp(guest_end, geometry.subcluster_bytes()));
}

// Empties a file; a block device keeps its size.
Task<absl::Status> MakeEmpty(Disk& disk) {
  if (disk.size() == 0) co_return absl::OkStatus();
  const absl::Status status = co_await disk.Truncate(0);
  if (ErrnoOf(status) == EINVAL) co_return absl::OkStatus();
  co_return status;
}

// As long as the disk, and zeroes.
Task<absl::Status> MakeDataFile(Disk& disk, uint64_t virtual_size) {
  CO_RETURN_IF_ERROR(co_await MakeEmpty(disk));
  if (disk.size() == 0) co_return co_await disk.Truncate(virtual_size);
  // A block device.
  if (disk.size() >= virtual_size) co_return co_await ZeroOnDisk(disk, HostOffset(0), virtual_size);
  co_return ErrnoStatus(ENOSPC, absl::StrFormat("'%s' ends at %d bytes and %d are needed",
                                                disk.name(), disk.size(), virtual_size));
}

}  // namespace

Task<absl::Status> CreateImage(Disk& disk, CreateOptions options, Disk* data_file) {
  CO_ASSIGN_OR_RETURN(const Geometry geometry, ValidateCreateOptions(options));
  RINGCOW_INVARIANT((data_file != nullptr) == !options.data_file.empty(),
                    "a data file comes with its name");
  if (data_file != nullptr) {
    CO_RETURN_IF_ERROR(co_await MakeDataFile(*data_file, geometry.virtual_size()));
  }
  // All of a raw data file is the guest's disk, and the metadata says so everywhere.
  if (options.data_file_raw && options.preallocation == Preallocation::kOff) {
    options.preallocation = Preallocation::kMetadata;
  }
  CO_RETURN_IF_ERROR(co_await MakeEmpty(disk));
  const Header header = MakeHeader(options, geometry);
  CO_RETURN_IF_ERROR(co_await WriteInitialClusters(disk, header, geometry));

  Metadata metadata(disk, header, geometry, MetadataOptions(), data_file);
  CO_RETURN_IF_ERROR(co_await metadata.Load());
  Growth growth(disk, Growth::Manner::kSparse);
  Allocator allocator(metadata, growth, {.reserves = false});
  CO_RETURN_IF_ERROR(co_await AddL1Table(metadata, allocator));
  const Requests requests(disk.loop());
  DeferredFrees frees(metadata, allocator, requests, PassDiscardOptions());
  Mapper mapper(metadata, allocator, frees);
  CO_RETURN_IF_ERROR(co_await Preallocate(metadata, allocator, mapper, GuestOffset(0),
                                          EndOfUsed(metadata, allocator), options.preallocation));
  CO_RETURN_IF_ERROR(co_await metadata.write_back.Flush());
  const uint64_t end = EndOfImage(metadata, allocator, options.preallocation);
  if (disk.size() > end) {
    const absl::Status status = co_await disk.Truncate(end);
    if (!status.ok() && ErrnoOf(status) != EINVAL) co_return status;
  }
  co_return co_await disk.Fdatasync();
}

}  // namespace ringcow
