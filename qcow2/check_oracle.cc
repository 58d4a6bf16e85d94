#include "qcow2/check_oracle.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <ostream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/testing/sim_disk.h"
#include "qcow2/format/big_endian.h"

namespace ringcow {
namespace {

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

std::string TestDirectory() {
  const char* directory = std::getenv("TEST_TMPDIR");
  return directory == nullptr ? "/tmp" : directory;
}

int RunShell(const std::string& command, std::string& output) {
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) Fail("popen: " + command);
  char buffer[4096];
  while (const size_t bytes = std::fread(buffer, 1, sizeof(buffer), pipe)) {
    output.append(buffer, bytes);
  }
  const int status = pclose(pipe);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

// The number behind "key": in qemu-img's JSON; counts that are 0 are left out of it.
uint64_t JsonNumber(const std::string& json, const std::string& key) {
  const size_t at = json.find("\"" + key + "\": ");
  return at == std::string::npos ? 0 : std::strtoull(&json[at + key.size() + 4], nullptr, 10);
}

CheckResult ResultFromJson(const std::string& json) {
  return {.corruptions = JsonNumber(json, "corruptions"),
          .leaks = JsonNumber(json, "leaks"),
          .check_errors = JsonNumber(json, "check-errors"),
          .corruptions_fixed = JsonNumber(json, "corruptions-fixed"),
          .leaks_fixed = JsonNumber(json, "leaks-fixed"),
          .image_end_offset = JsonNumber(json, "image-end-offset"),
          .total_clusters = JsonNumber(json, "total-clusters"),
          .allocated_clusters = JsonNumber(json, "allocated-clusters"),
          .fragmented_clusters = JsonNumber(json, "fragmented-clusters"),
          .compressed_clusters = JsonNumber(json, "compressed-clusters")};
}

int ExitCodeOf(const CheckResult& result) {
  if (result.check_errors != 0) return 1;
  if (result.corruptions != 0) return 2;
  return result.leaks != 0 ? 3 : 0;
}

std::string TextOf(const CheckReport& report) {
  const CheckResult& r = report.result;
  std::string text = absl::StrCat("exit code ", report.exit_code);
  if (report.error.empty()) {
    absl::StrAppend(&text, ", corruptions ", r.corruptions, ", leaks ", r.leaks, ", check errors ",
                    r.check_errors, ", fixed ", r.corruptions_fixed, " and ", r.leaks_fixed,
                    ", end ", r.image_end_offset, ", total ", r.total_clusters, ", allocated ",
                    r.allocated_clusters, ", fragmented ", r.fragmented_clusters, ", compressed ",
                    r.compressed_clusters);
  }
  for (const std::string& line : report.lines) absl::StrAppend(&text, "\n  ", line);
  if (!report.error.empty()) absl::StrAppend(&text, "\n  ", report.error);
  return text;
}

CheckOptions LinesInto(CheckReport& report) {
  return {.report = [&report](absl::string_view line) { report.lines.emplace_back(line); }};
}

void SetResult(const absl::StatusOr<CheckResult>& result, CheckReport& report) {
  if (!result.ok()) {
    report.exit_code = 1;
    report.error = absl::StrCat("Could not open: ", result.status().message());
    return;
  }
  report.result = *result;
  report.exit_code = ExitCodeOf(*result);
  if (result->stopped_by != 0) {
    const std::vector<std::string> reasons =
        absl::StrSplit(result->stop_reason, '\n', absl::SkipEmpty());
    report.lines.insert(report.lines.end(), reasons.begin(), reasons.end());
    report.error = absl::StrCat("Check failed: ", std::strerror(result->stopped_by));
  } else if (report.exit_code == 1) {
    report.lines.emplace_back("Check failed");
  }
}

// `repair` is an option of qemu-img check, or nothing.
CheckReport RunQemuCheck(const std::string& path, absl::string_view repair) {
  CheckReport report;
  const std::string errors_path = path + ".stderr";
  std::string json;
  report.exit_code = RunShell(absl::StrCat("qemu-img check ", repair, " -f qcow2 --output=json '",
                                           path, "' 2>", errors_path),
                              json);
  if (report.exit_code == 127) Fail("qemu-img is missing");
  report.result = ResultFromJson(json);

  std::ifstream errors(errors_path);
  for (std::string line; std::getline(errors, line);) {
    absl::string_view text = absl::StripPrefix(line, "qemu-img: ");
    // What opening the image had to say; its hint has no newline.
    if (absl::StartsWith(text, "warning: ")) continue;
    absl::ConsumePrefix(&text,
                        "Some clusters may be leaked, run 'qemu-img check -r' on the image file to "
                        "fix.");
    const std::string refused = absl::StrCat("Could not open '", path, "': ");
    if (absl::StartsWith(text, refused)) {
      report.error = absl::StrCat("Could not open: ", text.substr(refused.size()));
    } else if (absl::StartsWith(text, "Check failed: ")) {
      report.error = std::string(text);
    } else {
      report.lines.emplace_back(text);
    }
  }
  unlink(errors_path.c_str());
  return report;
}

}  // namespace

bool CheckReport::operator==(const CheckReport& other) const {
  return TextOf(*this) == TextOf(other);
}

std::ostream& operator<<(std::ostream& out, const CheckReport& report) {
  return out << TextOf(report);
}

CheckReport CheckDisk(Loop& loop, Disk& disk) {
  CheckReport report;
  SetResult(loop.Run(CheckImage(disk, LinesInto(report))), report);
  return report;
}

CheckReport CheckSimulated(DiskImage image) {
  Loop loop;
  SimDisk disk(loop, {.record = false}, std::move(image));
  return CheckDisk(loop, disk);
}

CheckReport CheckFile(const std::string& path) {
  absl::StatusOr<DiskImage> image = DiskImage::LoadFile(path);
  if (!image.ok()) Fail(std::string(image.status().message()));
  return CheckSimulated(*std::move(image));
}

CheckReport RepairFile(const std::string& path, RepairScope scope) {
  absl::StatusOr<DiskImage> image = DiskImage::LoadFile(path);
  if (!image.ok()) Fail(std::string(image.status().message()));
  Loop loop;
  SimDisk disk(loop, {.record = false}, *std::move(image));
  CheckReport report;
  absl::StatusOr<CheckResult> result = loop.Run(RepairImage(disk, scope, LinesInto(report)));
  if (result.ok() && (result->corruptions_fixed != 0 || result->leaks_fixed != 0)) {
    const CheckResult repaired = *result;
    result = loop.Run(CheckImage(disk, LinesInto(report)));
    if (result.ok()) result->corruptions_fixed = repaired.corruptions_fixed;
    if (result.ok()) result->leaks_fixed = repaired.leaks_fixed;
  }
  SetResult(result, report);
  const absl::Status saved = disk.content().SaveFile(path);
  if (!saved.ok()) Fail(std::string(saved.message()));
  return report;
}

CheckReport QemuCheck(const std::string& path) { return RunQemuCheck(path, ""); }

CheckReport QemuRepair(const std::string& path, RepairScope scope) {
  return RunQemuCheck(path, scope == RepairScope::kAll ? "-r all" : "-r leaks");
}

std::string Shell(const std::string& command) {
  std::string output;
  if (RunShell("(" + command + ") 2>&1", output) != 0) Fail(command + ": " + output);
  return output;
}

ImageFile::ImageFile(const std::string& options, const std::string& size,
                     const std::vector<std::string>& commands) {
  static int number = 0;
  path_ = absl::StrCat(TestDirectory(), "/", getpid(), "-", number++, ".qcow2");
  Shell(absl::StrCat("qemu-img create -q -f qcow2 ", options.empty() ? "" : "-o ", options, " '",
                     path_, "' ", size));
  std::string io;
  const auto run_io = [&] {
    // What is read next is in the page cache; fsyncs are most of the time here.
    if (!io.empty()) Shell(absl::StrCat("qemu-io -t unsafe -f qcow2", io, " '", path_, "'"));
    io.clear();
  };
  for (const std::string& command : commands) {
    if (!absl::StartsWith(command, "$ ")) {
      absl::StrAppend(&io, " -c '", command, "'");
      continue;
    }
    run_io();
    Shell(absl::StrCat("FILE='", path_, "'; ",
                       absl::StrJoin(absl::StrSplit(command.substr(2), "FILE"), "\"$FILE\"")));
  }
  run_io();
}

ImageFile::~ImageFile() { unlink(path_.c_str()); }

void ImageFile::Get(uint64_t offset, void* bytes, size_t length) const {
  std::ifstream file(path_, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  std::memset(bytes, 0, length);
  file.read(static_cast<char*>(bytes), static_cast<std::streamsize>(length));
}

void ImageFile::Put(uint64_t offset, const void* bytes, size_t length) {
  const int fd = open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  const ssize_t written = pwrite(fd, bytes, length, static_cast<off_t>(offset));
  close(fd);
  if (written != static_cast<ssize_t>(length)) Fail("cannot write to " + path_);
}

uint64_t ImageFile::Get64(uint64_t offset) const {
  Be64 value;
  Get(offset, &value, sizeof(value));
  return value.value();
}

uint32_t ImageFile::Get32(uint64_t offset) const {
  Be32 value;
  Get(offset, &value, sizeof(value));
  return value.value();
}

uint16_t ImageFile::Get16(uint64_t offset) const {
  Be16 value;
  Get(offset, &value, sizeof(value));
  return value.value();
}

void ImageFile::Put64(uint64_t offset, uint64_t value) {
  const Be64 bytes(value);
  Put(offset, &bytes, sizeof(bytes));
}

void ImageFile::Put32(uint64_t offset, uint32_t value) {
  const Be32 bytes(value);
  Put(offset, &bytes, sizeof(bytes));
}

void ImageFile::Put16(uint64_t offset, uint16_t value) {
  const Be16 bytes(value);
  Put(offset, &bytes, sizeof(bytes));
}

void ImageFile::Truncate(uint64_t size) {
  if (truncate(path_.c_str(), static_cast<off_t>(size)) != 0) Fail("cannot truncate " + path_);
}

}  // namespace ringcow
