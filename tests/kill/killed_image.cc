#include "tests/kill/killed_image.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/aligned_buffer.h"
#include "engine/invariant.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/status_macros.h"
#include "engine/uring_disk.h"
#include "engine/zeroes.h"
#include "qcow2/image.h"
#include "tests/kill/guest.h"
#include "tests/support/checked.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr int kQemuClean = 0;
constexpr int kQemuLeaks = 3;

Task<absl::Status> ReadAll(Disk& disk, std::span<std::byte> into) {
  OpenOptions options;
  options.read_only = true;
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<Image> image, co_await Image::Open(disk, options));
  co_return co_await image->Read(GuestOffset(0), into);
}

// The requests that a killed process has handed over to the kernel keep its file open, and with it
// the image lock, until they have ended: whoever has the lock sees what is left, and nothing moves.
absl::StatusOr<std::unique_ptr<UringDisk>> OpenWhenUnlocked(Rings& rings, const std::string& path) {
  const absl::Time end = absl::Now() + kPatience;
  while (true) {
    auto disk = UringDisk::Open(rings, path, {.read_only = true});
    if (!absl::IsUnavailable(disk.status()) || absl::Now() > end) return disk;
    absl::SleepFor(absl::Milliseconds(1));
  }
}

// Checks the image, and reads all of it. The notice is that of the disk.
absl::StatusOr<std::string> CheckAndRead(const std::string& path, std::span<std::byte> into) {
  Loop loop;
  ASSIGN_OR_RETURN(const std::unique_ptr<Rings> rings, Rings::Create(loop));
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, OpenWhenUnlocked(*rings, path));
  if (const std::string wrong = FindingsWithoutLeaks(*disk); !wrong.empty()) {
    return absl::DataLossError(wrong);
  }
  RETURN_IF_ERROR(loop.Run(ReadAll(*disk, into)));
  return disk->notice();
}

// The same by QEMU's tools.
std::string CheckAndReadWithQemu(const std::string& path, std::span<const std::byte> expected) {
  const ToolResult check = QemuCheck(path);
  if (check.status != kQemuClean && check.status != kQemuLeaks) {
    return absl::StrCat("qemu-img check: ", check.output);
  }
  const TempFile raw(".raw");
  const ToolResult convert = RunTool(
      {"qemu-img", "convert", "-t", "unsafe", "-f", "qcow2", "-O", "raw", path, raw.path()});
  if (convert.status != 0) return absl::StrCat("qemu-img convert: ", convert.output);
  std::vector<char> bytes(expected.size());
  std::ifstream(raw.path(), std::ios::binary)
      .read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (std::memcmp(bytes.data(), expected.data(), bytes.size()) == 0) return "";
  return "qemu-img convert reads something else than we do";
}

}  // namespace

size_t Tally::kills() const { return std::accumulate(kills_in.begin(), kills_in.end(), size_t{0}); }

std::string Tally::ToString() const {
  const auto in = [&](Phase phase) { return kills_in[static_cast<size_t>(phase)]; };
  return absl::StrFormat(
      "%d kills: %d while creating, %d while opening, %d while working, %d while closing, %d at "
      "the "
      "end; %d of them during a flush. %d guests were done before. %d writes and %d flushes had "
      "been "
      "acknowledged. %s",
      kills(), in(Phase::kCreating), in(Phase::kOpening), in(Phase::kWorking), in(Phase::kClosing),
      in(Phase::kEnded), kills_in_flush, orderly_ends, writes, flushes, notice);
}

KilledImage::KilledImage(std::string path, uint64_t seed)
    : path_(std::move(path)), random_(seed), create_(RandomImage(random_)) {}

std::string KilledImage::Live(Tally& tally) {
  return Live(RandomLife(create_, !expected_.has_value(), random_), tally);
}

std::string KilledImage::Live(const Life& life, Tally& tally) {
  Life numbered = life;
  numbered.first_stamp = next_stamp_;
  const Death death = RunAndKill(numbered);
  Count(death, tally);
  std::string wrong;
  if (!death.killed && death.status != 0) {
    wrong = absl::StrCat("the guest ended with status ", death.status, ": ", journal_.failure());
  } else if (!expected_.has_value() && journal_.phase() == Phase::kCreating) {
    wrong = JudgeAbandonedCreation();
  } else {
    if (!expected_.has_value()) expected_.emplace(create_.virtual_size / kStampedSector);
    wrong = JudgeFile(life.open.write_back.mode == CacheMode::kWritethrough, tally);
  }
  for (const Journal::Entry& entry : journal_.entries()) {
    if (entry.event == Journal::Event::kWrite) next_stamp_ = entry.subject + 1;
  }
  if (wrong.empty()) return "";
  return absl::StrFormat("%s\nafter phase %d, %d entries: %s", wrong, journal_.phase(),
                         journal_.entries().size(), Describe(life));
}

KilledImage::Death KilledImage::RunAndKill(const Life& life) {
  journal_.Clear();
  const pid_t guest = fork();
  RINGCOW_INVARIANT(guest >= 0, std::strerror(errno));
  if (guest == 0) RunGuest(path_, life, journal_);

  int status = 0;
  const absl::Time end = absl::Now() + kPatience;
  while (!IsTimeToKill(life) && absl::Now() < end) {
    if (waitpid(guest, &status, WNOHANG) == guest) return {.status = WEXITSTATUS(status)};
    (void)sched_yield();
  }
  absl::SleepFor(life.delay);
  (void)kill(guest, SIGKILL);
  RINGCOW_INVARIANT(waitpid(guest, &status, 0) == guest, std::strerror(errno));
  if (WIFEXITED(status)) return {.status = WEXITSTATUS(status)};
  return {.killed = WTERMSIG(status) == SIGKILL, .status = 128 + WTERMSIG(status)};
}

bool KilledImage::IsTimeToKill(const Life& life) const {
  if (journal_.phase() < life.kill_in) return false;
  if (journal_.phase() > life.kill_in) return true;
  const std::span<const Journal::Entry> entries = journal_.entries();
  if (entries.size() < life.kill_after) return false;
  return !life.kill_in_flush ||
         (!entries.empty() && entries.back().event == Journal::Event::kFlush);
}

void KilledImage::Count(const Death& death, Tally& tally) const {
  if (death.killed) ++tally.kills_in[static_cast<size_t>(journal_.phase())];
  if (!death.killed) ++tally.orderly_ends;
  size_t flushing = 0;
  for (const Journal::Entry& entry : journal_.entries()) {
    switch (entry.event) {
      case Journal::Event::kWrite:
        break;
      case Journal::Event::kWritten:
        ++tally.writes;
        break;
      case Journal::Event::kFlush:
        ++flushing;
        break;
      case Journal::Event::kFlushed:
        ++tally.flushes;
        --flushing;
        break;
    }
  }
  if (death.killed && flushing > 0) ++tally.kills_in_flush;
}

std::string KilledImage::JudgeFile(bool writethrough, Tally& tally) {
  const AlignedBuffer found(create_.virtual_size);
  const absl::StatusOr<std::string> notice = CheckAndRead(path_, found.span());
  if (!notice.ok()) return notice.status().ToString();
  tally.notice = *notice;
  std::string wrong = expected_->Judge(journal_.entries(), writethrough, found.span());
  if (!wrong.empty()) return wrong;
  return CheckAndReadWithQemu(path_, found.span());
}

// What is left of a creation is nobody's image. It need not be one, but may not bring us down.
std::string KilledImage::JudgeAbandonedCreation() const {
  if (access(path_.c_str(), F_OK) != 0) return "";
  const AlignedBuffer found(create_.virtual_size);
  if (!CheckAndRead(path_, found.span()).ok()) return "";
  return AreZeroes(found.span()) ? "" : "an image that was not finished holds data";
}

}  // namespace ringcow
