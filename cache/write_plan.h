#ifndef RINGCOW_CACHE_WRITE_PLAN_H_
#define RINGCOW_CACHE_WRITE_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/table.h"
#include "engine/aligned_buffer.h"
#include "engine/counters.h"
#include "engine/host_offset.h"

namespace ringcow {

// One disk write of a plan: the changed sectors of one table, or of several, with the unchanged
// sectors and tables between them. The bytes are a copy.
struct PlannedWrite {
  struct Part {
    Table* table;
    uint64_t dirty;  // the units it covers
  };

  HostOffset offset;
  std::span<const std::byte> bytes;
  Content content = Content::kOther;
  std::vector<Part> parts;
  std::vector<const Table*> between;  // unchanged
};

// The writes of a flush by stage, copied out of the tables: stage i must be durable before stage
// i + 1 begins.
class WritePlan {
 public:
  // `stages` as WriteOrder::Stages gives them: sorted by offset; tables in it that are not dirty
  // are skipped. Copies only; the tables are not changed. `now` is the newest version of all.
  //
  // Changes of a stage become one write where at most `merge_gap` bytes lie between them: unchanged
  // sectors of the same tables, and unchanged slices of the same table, if they are cached.
  WritePlan(const std::vector<std::vector<Table*>>& stages, Version now, uint64_t merge_gap);
  WritePlan(WritePlan&&) = default;

  std::span<std::vector<PlannedWrite>> stages() { return stages_; }
  std::span<const std::vector<PlannedWrite>> stages() const { return stages_; }
  // Each table's copy holds all of the table's changes up to here.
  Version through() const { return through_; }
  size_t writes() const;
  bool empty() const { return writes() == 0; }

 private:
  const Version through_;
  std::vector<std::vector<PlannedWrite>> stages_;
  AlignedBuffer copies_;
};

}  // namespace ringcow

#endif  // RINGCOW_CACHE_WRITE_PLAN_H_
