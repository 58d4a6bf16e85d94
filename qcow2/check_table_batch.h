#ifndef RINGCOW_QCOW2_CHECK_TABLE_BATCH_H_
#define RINGCOW_QCOW2_CHECK_TABLE_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/aligned_buffer.h"
#include "engine/counters.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/task.h"

namespace ringcow {

// Tables of one cluster that are read side by side, so that a walk over many small ones does not
// wait for the disk at each. At most 4 MiB at a time, or one table.
class TableBatch {
 public:
  struct Table {
    uint64_t tag = 0;  // the caller's
    HostOffset offset;
    absl::Status status;  // of the read
    AlignedBuffer buffer;

    std::span<const std::byte> bytes() const { return buffer.span(); }
  };

  // `disk` must outlive the batch.
  TableBatch(Disk& disk, uint64_t table_bytes, Content content);

  bool full() const { return used_ == tables_.size(); }
  void Clear() { used_ = 0; }
  // Not when it is full.
  void Add(HostOffset offset, uint64_t tag);
  // Reads all that were added.
  Task<void> Read();

  // In the order in which they were added.
  std::span<const Table> tables() const { return std::span(tables_).first(used_); }

 private:
  Task<absl::Status> ReadOne(Table& table);

  Disk& disk_;
  const uint64_t table_bytes_;
  const Content content_;
  size_t used_ = 0;
  std::vector<Table> tables_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_TABLE_BATCH_H_
