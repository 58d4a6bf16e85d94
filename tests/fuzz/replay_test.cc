// The fuzz targets over what once broke something, over seeds from real images, and over some
// thousand mutations of these. RINGCOW_FUZZ_FACTOR multiplies these; a failure says how to repeat
// it with RINGCOW_FUZZ_SEED, and RINGCOW_FUZZ_SAVE=FILE keeps its input.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/targets.h"
#include "tests/support/tools.h"

// Only where a sanitizer is linked.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

struct Target {
  std::string name;
  void (*run)(std::span<const std::byte>);
  uint32_t mutations;  // in all

  friend std::ostream& operator<<(std::ostream& out, const Target& target) {
    return out << target.name;
  }
};

const Target kTargets[] = {
    {"header", FuzzHeader, 4000},
    {"table_entries", FuzzTableEntries, 2000},
    {"snapshot_table", FuzzSnapshotTable, 4000},
    {"bitmap_directory", FuzzBitmapDirectory, 4000},
    {"compressed_cluster", FuzzCompressedCluster, 4000},
    {"image", FuzzImage, 1000},
    {"repair", FuzzRepair, 1000},
    {"reserve_record", FuzzReserveRecord, 1000},
    {"image_description", FuzzImageDescription, 8000},
    {"blkdebug_config", FuzzBlkdebugConfig, 4000},
};

struct Seed {
  std::string name;
  Bytes bytes;
};

Bytes ReadAll(const std::filesystem::path& path) {
  Bytes bytes(std::filesystem::file_size(path));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

// By name, so that the same seed means the same everywhere.
std::vector<Seed> SeedsIn(const std::filesystem::path& directory) {
  std::vector<Seed> seeds;
  if (!std::filesystem::exists(directory)) return seeds;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    seeds.push_back({entry.path().filename(), ReadAll(entry.path())});
  }
  std::sort(seeds.begin(), seeds.end(),
            [](const Seed& a, const Seed& b) { return a.name < b.name; });
  return seeds;
}

// Made once for all tests of this process.
const std::string& Corpus() {
  static const std::string& directory = *new std::string([] {
    std::string path = absl::StrCat(testing::TempDir(), "/corpus");
    const ToolResult made = RunTool({"tests/fuzz/make_corpus", path});
    EXPECT_EQ(made.status, 0) << made.output;
    return path;
  }());
  return directory;
}

uint32_t FromEnvironment(const char* name, uint32_t otherwise) {
  const char* const text = std::getenv(name);
  uint32_t value = otherwise;
  if (text != nullptr) EXPECT_TRUE(absl::SimpleAtoi(text, &value)) << name << "=" << text;
  return value;
}

// A target ends the process when something is wrong. What it was doing is said then, and the input
// is kept where RINGCOW_FUZZ_SAVE says.
struct Running {
  std::string name;
  std::span<const std::byte> input;
};
Running& running = *new Running;

void Write(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written <= 0) return;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void SayWhatRuns() {
  Write(STDERR_FILENO, std::as_bytes(std::span(running.name)));
  const char* const path = std::getenv("RINGCOW_FUZZ_SAVE");
  if (path == nullptr) return;
  const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  Write(fd, running.input);
  (void)close(fd);
}

void Replay(const Target& target, const Bytes& input, const std::string& name) {
  running = {absl::StrCat("The target ", target.name, " was given ", name, "\n"), input};
  target.run(input);
}

class ReplayTest : public testing::TestWithParam<Target> {
 protected:
  static void SetUpTestSuite() {
    (void)std::signal(SIGABRT, [](int /*signal*/) { SayWhatRuns(); });
    if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(&SayWhatRuns);
  }
};

INSTANTIATE_TEST_SUITE_P(All, ReplayTest, testing::ValuesIn(kTargets),
                         [](const auto& info) { return info.param.name; });

TEST_P(ReplayTest, WhatOnceBroke) {
  const std::filesystem::path directory = "tests/fuzz/regressions";
  for (const Seed& seed : SeedsIn(directory / GetParam().name)) {
    Replay(GetParam(), seed.bytes, seed.name);
  }
}

TEST_P(ReplayTest, SeedsAndMutations) {
  const std::vector<Seed> seeds = SeedsIn(std::filesystem::path(Corpus()) / GetParam().name);
  ASSERT_FALSE(seeds.empty());
  for (const Seed& seed : seeds) Replay(GetParam(), seed.bytes, seed.name);
  const uint32_t first = FromEnvironment("RINGCOW_FUZZ_SEED", std::random_device()());
  const uint32_t mutations = GetParam().mutations * FromEnvironment("RINGCOW_FUZZ_FACTOR", 1);
  for (uint32_t i = 0; i < mutations; ++i) {
    std::mt19937 random(first + i);
    const Seed& seed = seeds[random() % seeds.size()];
    Bytes bytes = seed.bytes;
    Mutate(bytes, random);
    Replay(GetParam(), bytes, absl::StrCat(seed.name, " with RINGCOW_FUZZ_SEED=", first + i));
  }
}

}  // namespace
}  // namespace ringcow
