#include "tests/kill/guest.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <random>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/aligned_buffer.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/scope.h"
#include "engine/status_macros.h"
#include "engine/task.h"
#include "engine/uring_disk.h"
#include "qcow2/create.h"
#include "qcow2/image.h"
#include "tests/kill/expectation.h"

namespace ringcow {
namespace {

class Guest {
 public:
  Guest(Loop& loop, const Life& life, Journal& journal)
      : loop_(loop), life_(life), journal_(journal), next_stamp_(life.first_stamp) {}

  Task<absl::Status> Live(Disk& disk) {
    if (life_.creates) {
      journal_.Enter(Phase::kCreating);
      CO_RETURN_IF_ERROR(co_await CreateImage(disk, life_.create));
    }
    journal_.Enter(Phase::kOpening);
    CO_ASSIGN_OR_RETURN(image_, co_await Image::Open(disk, life_.open));
    journal_.Enter(Phase::kWorking);
    Scope workers(loop_);
    for (size_t i = 0; i < life_.workers; ++i) workers.Spawn(Work(i));
    CO_RETURN_IF_ERROR(co_await workers.Join());
    journal_.Enter(Phase::kClosing);
    CO_RETURN_IF_ERROR(co_await Flush(/*closes=*/true));
    journal_.Enter(Phase::kEnded);
    co_return absl::OkStatus();
  }

 private:
  Task<absl::Status> Work(size_t worker) {
    std::mt19937_64 random(life_.seed + worker);
    for (size_t i = 0; life_.steps == 0 || i < life_.steps; ++i) {
      const bool flushes = random() % life_.flush_odds == 0;
      CO_RETURN_IF_ERROR(flushes ? co_await Flush(/*closes=*/false)
                                 : co_await WriteSome(worker, random));
    }
    co_return absl::OkStatus();
  }

  // No two workers share a sector, but clusters and L2 tables. Half of the writes go to a sixteenth
  // of the disk, so that much is written again.
  Task<absl::Status> WriteSome(size_t worker, std::mt19937_64& random) {
    const uint64_t sectors = life_.create.virtual_size / kStampedSector;
    const uint64_t groups = sectors / life_.group / life_.workers;
    const uint64_t group = random() % (random() % 2 == 0 ? groups / 16 + 1 : groups);
    const uint64_t count = 1 + random() % (random() % 4 == 0 ? life_.group : 4);
    const uint64_t first = (group * life_.workers + worker) * life_.group;
    co_return co_await Write(first + random() % (life_.group - count + 1), count);
  }

  Task<absl::Status> Write(uint64_t sector, uint64_t count) {
    Journal::Entry entry{.event = Journal::Event::kWrite,
                         .count = static_cast<uint32_t>(count),
                         .sector = sector,
                         .subject = next_stamp_++};
    const AlignedBuffer buffer(count * kStampedSector);
    FillStamped(entry.subject, sector, buffer.span());
    journal_.Add(entry);
    CO_RETURN_IF_ERROR(co_await image_->Write(GuestOffset(sector * kStampedSector), buffer.span()));
    entry.event = Journal::Event::kWritten;
    journal_.Add(entry);
    co_return absl::OkStatus();
  }

  // Closing ends in a flush.
  Task<absl::Status> Flush(bool closes) {
    const size_t before = journal_.entries().size();
    journal_.Add({.event = Journal::Event::kFlush, .subject = before});
    if (!life_.lies_about_flushes) {
      CO_RETURN_IF_ERROR(closes ? co_await image_->Close() : co_await image_->Flush());
    }
    journal_.Add({.event = Journal::Event::kFlushed, .subject = before});
    co_return absl::OkStatus();
  }

  Loop& loop_;
  const Life& life_;
  Journal& journal_;
  std::unique_ptr<Image> image_;
  uint64_t next_stamp_;
};

absl::Status LiveOnFile(const std::string& path, const Life& life, Journal& journal) {
  if (!life.creates) journal.Enter(Phase::kOpening);
  Loop loop;
  ASSIGN_OR_RETURN(const std::unique_ptr<Rings> rings, Rings::Create(loop));
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk,
                   UringDisk::Open(*rings, path, {.creation = UringDisk::Creation::kIfMissing}));
  Guest guest(loop, life, journal);
  return loop.Run(guest.Live(*disk));
}

}  // namespace

void RunGuest(const std::string& path, const Life& life, Journal& journal) {
  const absl::Status status = LiveOnFile(path, life, journal);
  if (!status.ok()) journal.Fail(status.ToString());
  _exit(status.ok() ? 0 : 1);
}

}  // namespace ringcow
