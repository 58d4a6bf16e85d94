#include "qcow2/zero_path.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"
#include "qcow2/l2_slot.h"

namespace ringcow {
namespace {

// Zero bytes that are written at a time, where metadata cannot say that there are zeroes.
constexpr uint64_t kZeroesAtOnce = uint64_t{1} << 20;

// Subclusters of a compressed cluster cannot be zeroed alone.
std::optional<ExtendedL2Entry> Zeroed(ExtendedL2Entry entry, SubclusterRange subclusters,
                                      ZeroManner manner) {
  using State = SubclusterBitmap::State;
  const std::optional<HostOffset> host = entry.host_offset();
  if (subclusters.count < kSubclustersPerCluster) {
    if (entry.entry().kind() == L2Entry::Kind::kCompressed) return std::nullopt;
    return entry.WithBitmap(entry.bitmap().With(subclusters, State::kZero));
  }
  if (host.has_value() && manner == ZeroManner::kKeepSpace) {
    return ExtendedL2Entry::InCluster(*host, entry.copied(), SubclusterBitmap::AllZero());
  }
  return ExtendedL2Entry::WithoutCluster(SubclusterBitmap::AllZero());
}

}  // namespace

ZeroPath::ZeroPath(Metadata& metadata, Mapper& mapper, ReadPath& reader, WritePath& writer,
                   RangeLock& changing, bool has_backing)
    : metadata_(metadata),
      mapper_(mapper),
      reader_(reader),
      writer_(writer),
      changing_(changing),
      has_backing_(has_backing) {}

GuestOffset ZeroPath::AlignEndUp(GuestOffset end, uint64_t unit) const {
  const bool is_last = end.value() == metadata_.geometry.virtual_size();
  return is_last ? AlignUp(end, unit) : end;
}

Task<absl::Status> ZeroPath::WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) {
  if (metadata_.has_raw_data_file()) {
    co_return co_await ZeroRawData({offset, offset + length}, manner);
  }
  const uint64_t unit = metadata_.geometry.subcluster_bytes();
  const GuestOffset end = AlignEndUp(offset + length, unit);
  const GuestOffset first = AlignUp(offset, unit);
  const GuestOffset last = AlignDown(end, unit);
  if (first > last) co_return co_await ZeroPart({offset, end}, manner);
  if (offset < first) CO_RETURN_IF_ERROR(co_await ZeroPart({offset, first}, manner));
  if (first < last) CO_RETURN_IF_ERROR(co_await ZeroUnits({first, last}, manner));
  if (last < end) CO_RETURN_IF_ERROR(co_await ZeroPart({last, end}, manner));
  co_return absl::OkStatus();
}

Task<absl::Status> ZeroPath::ZeroUnits(Range units, ZeroManner manner) {
  if (metadata_.geometry.version() < 3) {
    RangeLock::Hold hold(changing_, units.begin.value(), units.end.value());
    co_await hold;
    co_return co_await WriteZeroBytes(units);
  }
  if (metadata_.has_data_file() && manner == ZeroManner::kMayUnmap) co_await PunchData(units);
  const auto zeroed = [manner](ExtendedL2Entry entry, SubclusterRange subclusters) {
    return Zeroed(entry, subclusters, manner);
  };
  co_return co_await Change(units, Holes::kFill, zeroed);
}

Task<absl::Status> ZeroPath::ZeroLocked(GuestOffset offset, uint64_t length) {
  const auto zeroed = [](ExtendedL2Entry entry, SubclusterRange subclusters) {
    return Zeroed(entry, subclusters, ZeroManner::kKeepSpace);
  };
  co_return co_await ChangeLocked(
      {offset, AlignEndUp(offset + length, metadata_.geometry.subcluster_bytes())}, Holes::kFill,
      zeroed);
}

ZeroPath::Range ZeroPath::InDataFile(Range range) const {
  const uint64_t end = std::min(metadata_.geometry.virtual_size(), metadata_.data_disk.size());
  return {range.begin, std::min(range.end, GuestOffset(end))};
}

Task<absl::Status> ZeroPath::ZeroRawData(Range range, ZeroManner manner) {
  range = InDataFile(range);
  if (range.empty()) co_return absl::OkStatus();
  const HostOffset begin(range.begin.value());
  const uint64_t length = range.end - range.begin;
  if (manner == ZeroManner::kMayUnmap) {
    const absl::Status status = co_await metadata_.data_disk.Punch(begin, length);
    if (ErrnoOf(status) != EOPNOTSUPP) co_return status;
  }
  co_return co_await ZeroOnDisk(metadata_.data_disk, begin, length);
}

// Space that is not given back is no failure of what the guest asked for.
Task<void> ZeroPath::PunchData(Range range) {
  range = InDataFile(range);
  if (range.empty()) co_return;
  (void)co_await metadata_.data_disk.Punch(HostOffset(range.begin.value()),
                                           range.end - range.begin);
}

Task<absl::Status> ZeroPath::ZeroPart(Range part, ZeroManner manner) {
  const Geometry& geometry = metadata_.geometry;
  const GuestOffset cluster = geometry.ClusterStart(part.begin);
  RangeLock::Hold hold(changing_, cluster.value(), cluster.value() + geometry.cluster_bytes());
  co_await hold;
  const GuestOffset begin = AlignDown(part.begin, geometry.subcluster_bytes());
  const Range unit{begin, begin + geometry.subcluster_bytes()};
  if (geometry.version() >= 3) {
    CO_ASSIGN_OR_RETURN(const bool becomes_zero, co_await IsZeroAround(part, unit));
    const auto zeroed = [manner](ExtendedL2Entry entry, SubclusterRange subclusters) {
      return Zeroed(entry, subclusters, manner);
    };
    if (becomes_zero) co_return co_await ChangeLocked(unit, Holes::kFill, zeroed);
  }
  co_return co_await WriteZeroBytes(part);
}

// Whether the subcluster reads as zeroes around `part`, and holds no data that would be lost.
Task<absl::StatusOr<bool>> ZeroPath::IsZeroAround(Range part, Range unit) {
  CO_ASSIGN_OR_RETURN(const Mapping mapping, co_await mapper_.Find(unit.begin, 1));
  if (mapping.kind != Mapping::Kind::kUnallocated && mapping.kind != Mapping::Kind::kZero) {
    co_return false;
  }
  CO_ASSIGN_OR_RETURN(const bool is_head_zero,
                      co_await reader_.AreKnownZero(unit.begin, part.begin - unit.begin));
  if (!is_head_zero) co_return false;
  co_return co_await reader_.AreKnownZero(part.end, unit.end - part.end);
}

Task<absl::Status> ZeroPath::WriteZeroBytes(Range range) {
  // Behind the end of the virtual disk there is nothing to be written.
  range.end = std::min(range.end, GuestOffset(metadata_.geometry.virtual_size()));
  if (range.empty()) co_return absl::OkStatus();
  const AlignedBuffer zeroes(std::min(range.end - range.begin, kZeroesAtOnce));
  std::memset(zeroes.data(), 0, zeroes.size());
  while (!range.empty()) {
    const uint64_t now = std::min<uint64_t>(range.end - range.begin, zeroes.size());
    // What reads as zeroes by way of a backing file is to do so without it.
    bool is_needed = has_backing_;
    if (!is_needed) {
      CO_ASSIGN_OR_RETURN(const bool are_zero, co_await reader_.AreKnownZero(range.begin, now));
      is_needed = !are_zero;
    }
    if (is_needed) {
      CO_RETURN_IF_ERROR(co_await writer_.WriteLocked(range.begin, zeroes.span().first(now)));
    }
    range.begin += now;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ZeroPath::Discard(GuestOffset offset, uint64_t length) {
  const Geometry& geometry = metadata_.geometry;
  const bool has_zero_clusters = geometry.version() >= 3;
  if (!has_zero_clusters && has_backing_) co_return absl::OkStatus();
  const Range clusters{
      AlignUp(offset, geometry.cluster_bytes()),
      AlignDown(AlignEndUp(offset + length, geometry.cluster_bytes()), geometry.cluster_bytes())};
  if (metadata_.has_raw_data_file()) {
    co_return co_await ZeroRawData(clusters, ZeroManner::kMayUnmap);
  }
  if (metadata_.has_data_file()) co_await PunchData(clusters);
  const auto discarded = [this, has_zero_clusters](ExtendedL2Entry entry, SubclusterRange) {
    const bool is_allocated =
        entry.entry().kind() == L2Entry::Kind::kCompressed || entry.host_offset().has_value();
    if (!is_allocated && !has_backing_) return std::optional(entry);
    if (!has_zero_clusters) return std::optional(ExtendedL2Entry());
    return std::optional(ExtendedL2Entry::WithoutCluster(SubclusterBitmap::AllZero()));
  };
  co_return co_await Change(clusters, has_backing_ ? Holes::kFill : Holes::kLeave, discarded);
}

Task<absl::Status> ZeroPath::Unmap(GuestOffset offset, uint64_t length) {
  const auto unmapped = [](ExtendedL2Entry, SubclusterRange) {
    return std::optional(ExtendedL2Entry());
  };
  co_return co_await Change(
      {offset, AlignEndUp(offset + length, metadata_.geometry.cluster_bytes())}, Holes::kLeave,
      unmapped);
}

Task<absl::Status> ZeroPath::Change(Range units, Holes holes, NextEntry next) {
  const Geometry& geometry = metadata_.geometry;
  const uint64_t table = geometry.bytes_per_l2_table();
  while (!units.empty()) {
    const GuestOffset end = std::min(units.end, AlignDown(units.begin, table) + table);
    RangeLock::Hold hold(changing_, geometry.ClusterStart(units.begin).value(),
                         AlignUp(end, geometry.cluster_bytes()).value());
    co_await hold;
    CO_RETURN_IF_ERROR(co_await ChangeLocked({units.begin, end}, holes, next));
    units.begin = end;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ZeroPath::ChangeLocked(Range units, Holes holes, NextEntry next) {
  const Geometry& geometry = metadata_.geometry;
  while (!units.empty()) {
    std::optional<Mapper::L2Slice> slice;
    if (holes == Holes::kFill) {
      CO_ASSIGN_OR_RETURN(slice, co_await mapper_.SliceForChange(units.begin));
    } else {
      CO_ASSIGN_OR_RETURN(slice, co_await mapper_.ExistingSliceForChange(units.begin));
      if (!slice.has_value()) co_return absl::OkStatus();
    }
    const GuestOffset first = geometry.ClusterStart(units.begin);
    const uint64_t count = std::min(slice->entries, geometry.ClustersFor(units.end - first));
    for (uint64_t i = 0; i < count; ++i) {
      const GuestOffset end = std::min(units.end, first + (i + 1) * geometry.cluster_bytes());
      CO_RETURN_IF_ERROR(co_await ChangeCluster(*slice, i, {units.begin, end}, next));
      units.begin = end;
    }
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ZeroPath::ChangeCluster(const Mapper::L2Slice& slice, uint64_t i, Range units,
                                           NextEntry next) {
  const absl::StatusOr<ExtendedL2Entry> valid = mapper_.EntryAt(slice, i);
  const std::optional<ExtendedL2Entry> entry =
      valid.ok() ? std::optional(*valid) : mapper_.RemovableEntryAt(slice, i);
  if (!entry.has_value()) co_return valid.status();
  const Geometry& geometry = metadata_.geometry;
  const SubclusterRange subclusters =
      SubclustersIn(geometry, geometry.ClusterStart(units.begin), units.begin, units.end);
  const std::optional<ExtendedL2Entry> changed = next(*entry, subclusters);
  // What is not valid has to go, as a whole.
  const bool is_good = changed.has_value() && IsAligned(geometry, changed->entry());
  if (!valid.ok() && (!is_good || subclusters.count < kSubclustersPerCluster)) {
    co_return valid.status();
  }
  if (!changed.has_value()) co_return co_await WriteZeroBytes(units);
  if (valid.ok() && *changed == *entry) co_return absl::OkStatus();
  mapper_.Replace(slice, i, *changed, DeferredFrees::Was::kDiscarded);
  co_return absl::OkStatus();
}

}  // namespace ringcow
