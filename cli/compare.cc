#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/target.h"
#include "engine/io_memory.h"
#include "engine/scope.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"
#include "qcow2/chain_extent.h"
#include "qcow2/failure_reason.h"

namespace ringcow {
namespace {

enum LongOnly { kImageOptions = kFirstLongOnlyKey, kObject };

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'q', "quiet", nullptr, "print errors only"},
    {'p', "progress", nullptr, "show how far it has come"},
    {'f', "a-format", "FMT", "the first image's format; else it is guessed"},
    {'F', "b-format", "FMT", "the second image's format; else it is guessed"},
    {'s', "strict", nullptr, "sizes and allocation must be equal, too"},
    {'T', "cache", "MODE", "cache mode, writeback (default), none, ..."},
    {'U', "force-share", nullptr, "also when an image is in use elsewhere"},
    {kImageOptions, "image-opts", nullptr, kImageOptionsHelp},
    {kObject, "object", "OBJECT", nullptr, "is not supported yet"},
};

// Exit statuses; those of failures tell what failed.
enum ExitStatus { kIdentical = 0, kDifferent = 1, kNotOpened = 2, kNoMetadata = 3, kNoData = 4 };

constexpr uint64_t kBytesAtOnce = 2 << 20;

struct Settings {
  std::string names[2];
  TargetOptions targets[2];
  bool strict = false;
  bool quiet = false;
  bool progress = false;
};

// One of the images that are compared.
struct Side {
  std::string name;
  const ImageChain* image = nullptr;
  std::span<std::byte> memory;  // kBytesAtOnce
};

class Comparison {
 public:
  Comparison(const Program& program, Loop& loop, const Settings& settings, Progress& progress,
             Side a, Side b)
      : program_(program),
        loop_(loop),
        settings_(settings),
        a_(std::move(a)),
        b_(std::move(b)),
        progress_(progress) {}

  Task<int> Run();

 private:
  Task<int> CompareCommon();
  Task<int> CompareRest(Side& longer);
  Task<std::optional<ChainExtent>> Find(const Side& side, uint64_t offset, uint64_t end);
  Task<bool> Read(const Side& side, uint64_t offset, uint64_t bytes);
  Task<int> CompareData(uint64_t offset, uint64_t bytes);
  // `side` has to hold zeroes.
  Task<int> CompareWithZeroes(const Side& side, uint64_t offset, uint64_t bytes);
  int Differ(std::string how);
  void Step(uint64_t end) {
    WarnOfSizes();
    progress_.Set(end, std::max(a_.image->size(), b_.image->size()));
  }
  // Once, if it is due: behind an error that comes first.
  void WarnOfSizes() {
    if (warns_of_sizes_) absl::PrintF("Warning: Image size mismatch!\n");
    warns_of_sizes_ = false;
  }

  const Program& program_;
  Loop& loop_;
  const Settings& settings_;
  Side a_;
  Side b_;
  Progress& progress_;
  bool warns_of_sizes_ = false;
  std::string difference_;  // said at the end, behind what went wrong
};

// Whether QEMU would say the same of both. Offsets do not count.
bool AreAlike(const ChainExtent& a, const ChainExtent& b) {
  return a.extent.allocated == b.extent.allocated && a.extent.zero == b.extent.zero &&
         a.extent.compressed == b.extent.compressed &&
         a.extent.host.has_value() == b.extent.host.has_value();
}

int Comparison::Differ(std::string how) {
  difference_ = std::move(how);
  return kDifferent;
}

Task<std::optional<ChainExtent>> Comparison::Find(const Side& side, uint64_t offset, uint64_t end) {
  const absl::StatusOr<ChainExtent> found =
      co_await FindInChain(*side.image, GuestOffset(offset), end - offset);
  if (found.ok()) co_return *found;
  program_.Error(absl::StrCat("Sector allocation test failed for ", side.name));
  co_return std::nullopt;
}

Task<bool> Comparison::Read(const Side& side, uint64_t offset, uint64_t bytes) {
  GuestDisk& disk = *side.image->layers().front().guest;
  const absl::Status status = co_await disk.Read(GuestOffset(offset), side.memory.first(bytes));
  if (status.ok()) co_return true;
  program_.Error(absl::StrFormat("Error while reading offset %d of %s: %s", offset, side.name,
                                 FailureReason(status)));
  co_return false;
}

Task<absl::Status> AsStatus(Task<bool> read) {
  const bool done = co_await std::move(read);
  co_return done ? absl::OkStatus() : absl::UnknownError("a read failed, which was said");
}

Task<int> Comparison::CompareData(uint64_t offset, uint64_t bytes) {
  Scope reads(loop_);
  reads.Spawn(AsStatus(Read(a_, offset, bytes)));
  reads.Spawn(AsStatus(Read(b_, offset, bytes)));
  const absl::Status status = co_await reads.Join();
  if (!status.ok()) co_return kNoData;
  const auto a = a_.memory.first(bytes);
  const auto [at, other] = std::mismatch(a.begin(), a.end(), b_.memory.begin());
  if (at == a.end()) co_return kIdentical;
  // Of sectors, not of bytes: that is what a script has been told so far.
  const uint64_t first = offset + AlignDown(static_cast<uint64_t>(at - a.begin()), kSectorBytes);
  co_return Differ(absl::StrFormat("Content mismatch at offset %d!", first));
}

Task<int> Comparison::CompareWithZeroes(const Side& side, uint64_t offset, uint64_t bytes) {
  const bool is_read = co_await Read(side, offset, bytes);
  if (!is_read) co_return kNoData;
  for (uint64_t at = 0; at < bytes; at += kSectorBytes) {
    const uint64_t length = std::min(kSectorBytes, bytes - at);
    if (AreZeroes(side.memory.subspan(at, length))) continue;
    co_return Differ(absl::StrFormat("Content mismatch at offset %d!", offset + at));
  }
  co_return kIdentical;
}

Task<int> Comparison::CompareCommon() {
  const uint64_t end = std::min(a_.image->size(), b_.image->size());
  for (uint64_t at = 0; at < end;) {
    const std::optional<ChainExtent> a = co_await Find(a_, at, end);
    if (!a.has_value()) co_return kNoMetadata;
    const std::optional<ChainExtent> b = co_await Find(b_, at, end);
    if (!b.has_value()) co_return kNoMetadata;
    if (settings_.strict && !AreAlike(*a, *b)) {
      co_return Differ(absl::StrFormat("Strict mode: Offset %d block status mismatch!", at));
    }
    uint64_t bytes = std::min(a->extent.bytes, b->extent.bytes);
    int status = kIdentical;
    if (!a->extent.zero || !b->extent.zero) {
      bytes = std::min(bytes, kBytesAtOnce);
      if (!a->extent.zero && !b->extent.zero) {
        status = co_await CompareData(at, bytes);
      } else {
        status = co_await CompareWithZeroes(a->extent.zero ? b_ : a_, at, bytes);
      }
    }
    if (status != kIdentical) co_return status;
    at += bytes;
    Step(at);
  }
  co_return kIdentical;
}

Task<int> Comparison::CompareRest(Side& longer) {
  const uint64_t end = longer.image->size();
  for (uint64_t at = std::min(a_.image->size(), b_.image->size()); at < end;) {
    const std::optional<ChainExtent> found = co_await Find(longer, at, end);
    if (!found.has_value()) co_return kNoMetadata;
    uint64_t bytes = found->extent.bytes;
    if (!found->extent.zero) {
      bytes = std::min(bytes, kBytesAtOnce);
      const int status = co_await CompareWithZeroes(longer, at, bytes);
      if (status != kIdentical) co_return status;
    }
    at += bytes;
    Step(at);
  }
  co_return kIdentical;
}

Task<int> Comparison::Run() {
  const bool same_size = a_.image->size() == b_.image->size();
  progress_.Begin();
  int status = kIdentical;
  if (settings_.strict && !same_size) {
    status = Differ("Strict mode: Image size mismatch!");
  } else {
    status = co_await CompareCommon();
  }
  if (status == kIdentical && !same_size) {
    warns_of_sizes_ = !settings_.quiet;
    status = co_await CompareRest(a_.image->size() > b_.image->size() ? a_ : b_);
  }
  WarnOfSizes();
  if (settings_.quiet) co_return status;
  if (status == kIdentical) absl::PrintF("Images are identical.\n");
  if (status == kDifferent) absl::PrintF("%s\n", difference_);
  co_return status;
}

Task<int> OpenAndCompare(const Program& program, Host& host, const Settings& settings,
                         Progress& progress) {
  const absl::StatusOr<Target> a =
      co_await OpenTarget(host, settings.names[0], settings.targets[0]);
  if (!a.ok()) {
    program.Error(MessageOf(a.status()));
    co_return kNotOpened;
  }
  const absl::StatusOr<Target> b =
      co_await OpenTarget(host, settings.names[1], settings.targets[1]);
  if (!b.ok()) {
    program.Error(MessageOf(b.status()));
    co_return kNotOpened;
  }
  const absl::StatusOr<IoMemory> memory = IoMemory::Allocate(2 * kBytesAtOnce);
  if (!memory.ok()) {
    program.Error(MessageOf(memory.status()));
    co_return kNotOpened;
  }
  Comparison comparison(program, host.loop, settings, progress,
                        {settings.names[0], &a->chain(), memory->span().first(kBytesAtOnce)},
                        {settings.names[1], &b->chain(), memory->span().subspan(kBytesAtOnce)});
  co_return co_await comparison.Run();
}

int CompareNamed(const Program& program, const Settings& settings, Progress& progress) {
  const absl::StatusOr<std::unique_ptr<Host>> host = Host::Create();
  if (!host.ok()) {
    program.Error(MessageOf(host.status()));
    return kNotOpened;
  }
  return (*host)->loop.Run(OpenAndCompare(program, **host, settings, progress));
}

int RunCompare(const Program& program, int argc, char** argv) {
  Settings settings;
  std::optional<CachePolicy> cache = CachePolicy();
  std::string cache_mode;
  OptionParser options(program, kOptions, argc, argv);
  while (const std::optional<int> option = options.Next()) {
    switch (*option) {
      case 'h':
        return PrintHelp(program, kCompareCommand);
      case 'q':
        settings.quiet = true;
        break;
      case 'p':
        settings.progress = true;
        break;
      case kImageOptions:
        for (TargetOptions& target : settings.targets) target.image_options = true;
        break;
      case 'f':
      case 'F':
        settings.targets[*option == 'f' ? 0 : 1].format = options.argument();
        break;
      case 's':
        settings.strict = true;
        break;
      case 'T':
        cache_mode = options.argument();
        cache = ParseCacheMode(cache_mode);
        break;
      case 'U':
        for (TargetOptions& target : settings.targets) target.force_share = true;
        break;
      default:
        return EXIT_FAILURE;
    }
  }
  if (options.rest().size() != 2) return program.Misused("Expecting two image file names");
  for (size_t i = 0; i < 2; ++i) settings.names[i] = options.rest()[i];
  constexpr double kStep = 2;
  Progress progress(settings.progress && !settings.quiet, kStep);
  int status = kNotOpened;
  if (cache.has_value()) {
    for (TargetOptions& target : settings.targets) target.cache = *cache;
    status = CompareNamed(program, settings, progress);
  } else {
    program.Error(absl::StrCat("Invalid source cache option: ", cache_mode));
  }
  progress.End();
  return status;
}

}  // namespace

const Command kCompareCommand = {
    .name = "compare",
    .summary = "Tell whether two images hold the same",
    .arguments = "FILE FILE",
    .options = kOptions,
    .run = RunCompare,
};

}  // namespace ringcow
