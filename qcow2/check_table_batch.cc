#include "qcow2/check_table_batch.h"

#include <algorithm>

#include "engine/invariant.h"
#include "engine/scope.h"

namespace ringcow {
namespace {

constexpr uint64_t kBatchBytes = uint64_t{4} << 20;
constexpr uint64_t kMaxTables = 64;

}  // namespace

TableBatch::TableBatch(Disk& disk, uint64_t table_bytes, Content content)
    : disk_(disk),
      table_bytes_(table_bytes),
      content_(content),
      tables_(std::clamp<uint64_t>(kBatchBytes / table_bytes, 1, kMaxTables)) {}

void TableBatch::Add(HostOffset offset, uint64_t tag) {
  RINGCOW_INVARIANT(!full(), "the batch has no room");
  Table& table = tables_[used_++];
  table.tag = tag;
  table.offset = offset;
  if (!table.buffer) table.buffer = AlignedBuffer(table_bytes_);
}

Task<absl::Status> TableBatch::ReadOne(Table& table) {
  table.status = co_await disk_.Read(table.offset, table.buffer.span(), content_);
  co_return absl::OkStatus();
}

Task<void> TableBatch::Read() {
  Scope scope(disk_.loop());
  for (size_t i = 0; i < used_; ++i) scope.Spawn(ReadOne(tables_[i]));
  // Each table has its own status.
  (co_await scope.Join()).IgnoreError();
}

}  // namespace ringcow
