#ifndef RINGCOW_QCOW2_METADATA_H_
#define RINGCOW_QCOW2_METADATA_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "cache/table_cache.h"
#include "cache/write_back.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/task.h"
#include "qcow2/blkdebug/event.h"
#include "qcow2/corruption.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/limits.h"
#include "qcow2/overlap_guard.h"
#include "qcow2/recorded_reserve.h"
#include "qcow2/resident_table.h"

namespace ringcow {

struct MetadataOptions {
  WriteBackOptions write_back;
  uint64_t l2_cache_bytes = 0;        // 0: what covers the image, at most 32 MiB
  uint64_t refcount_cache_bytes = 0;  // 0: what covers the image, at most 8 MiB
  uint32_t cache_slice_bytes = 4096;
  uint64_t cache_read_bytes = 0;
  OverlapCheck overlap_check = OverlapCheck::kCached;
  EventListener* events = nullptr;           // null: nobody wants to know
  CorruptionListener* corruption = nullptr;  // the same
  bool read_only = false;
};

// `status` with the disk's name before its message: what is wrong is told without by format/.
absl::Status Named(const Disk& disk, const absl::Status& status);

// All metadata of an open image: the header, and a cache for each kind of table, which share one
// WriteBack. Every byte of metadata that is changed while the image is open goes through here, so
// that its order against all others can be declared.
struct Metadata {
  // `data_file`: the external data file, of an image that has one.
  Metadata(Disk& disk, const Header& header, const Geometry& geometry,
           const MetadataOptions& options, Disk* data_file = nullptr);
  Metadata(const Metadata&) = delete;
  Metadata& operator=(const Metadata&) = delete;

  // Brings in the header's cluster, the L1 table and the refcount table.
  Task<absl::Status> Load();

  // Puts the offsets, sizes and feature bits of `header` into the cached header cluster. Declare
  // dependencies of header_table() first.
  void StoreHeader();
  Table& header_table() const { return header_pin.table(); }

  // No more writes are accepted, and none is made but of the corrupt bit in the header, durably,
  // where the version has one. `why` is what failure() says from now on.
  Task<absl::Status> MarkCorrupt(absl::Status why);

  // InvalidArgument, naming `what`, when [begin, begin + length) is where no table or data cluster
  // can be: in the header's cluster, the L1 table or the refcount table, or behind clusters_end. A
  // damaged entry must not make us overwrite what holds the image together; who only reads may go
  // there.
  absl::Status CheckPlace(HostOffset begin, uint64_t length, absl::string_view what) const {
    return IsPlace(begin, length) ? absl::OkStatus() : CheckMisplaced(begin, length, what);
  }
  bool IsPlace(HostOffset begin, uint64_t length) const {
    const HostOffset end = begin + length;
    return begin.value() >= geometry.cluster_bytes() && begin < clusters_end &&
           length <= kMaxFileOffset && !l1.Overlaps(begin, end) &&
           !refcount_table.Overlaps(begin, end);
  }

  // Tells the listener; only the first time of damage that the image is not marked for.
  void TellCorruption(absl::string_view what, CorruptionListener::Image image);
  // `status` of who met damage, with what became of that.
  absl::Status AfterCorruption(absl::Status status) const {
    return corruption_ != nullptr && has_told_corruption_ ? Told(std::move(status)) : status;
  }

  void Announce(DebugEvent event) const {
    if (events != nullptr) events->Happened(event);
  }

  // Guest data lies in a file of its own: each guest cluster at its own offset, none of them
  // counted by refcounts.
  bool has_data_file() const { return &data_disk != &disk; }

  // And that file by itself is the guest's disk.
  bool has_raw_data_file() const { return has_data_file() && header.raw_external_data(); }

  Disk& disk;
  Disk& data_disk;  // where the guest's uncompressed clusters are: `disk`, but for a data file
  Header header;
  Geometry geometry;  // only its virtual size ever changes
  WriteBack write_back;
  TableCache header_cache;
  TableCache l1_cache;
  TableCache refcount_table_cache;
  TableCache refcount_block_cache;
  TableCache l2_cache;

  // Where the last cluster ends: the end of the disk when it was opened, and of what was allocated
  // since. Space that the file has been grown by ahead of need is nobody's yet.
  HostOffset clusters_end;

  EventListener* const events;

  TablePin header_pin;
  ResidentTable l1;
  ResidentTable refcount_table;
  OverlapGuard guard;
  RecordedReserve recorded_reserve;

 private:
  absl::Status CheckMisplaced(HostOffset begin, uint64_t length, absl::string_view what) const;

  const bool read_only_;
  CorruptionListener* const corruption_;
  bool has_told_corruption_ = false;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_METADATA_H_
