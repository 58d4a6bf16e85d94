#ifndef RINGCOW_BENCH_FLAGS_H_
#define RINGCOW_BENCH_FLAGS_H_

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/catalog.h"

namespace ringcow {

struct Flags {
  std::string dir = ".";
  std::string filter;  // a regular expression; empty: no filter
  bool all = false;
  bool vs_qemu = false;
  bool targets = false;
  bool register_files = false;  // see Rings::Options
  bool sync_inline = true;      // the same
  std::string report;           // where to write the page; empty: none
  std::string revision;         // of the sources, for the page
  bool help = false;
  int repetitions = 3;
  std::chrono::nanoseconds time_limit = std::chrono::seconds(2);
  CatalogOptions catalog;
};

// Takes our flags out of `arguments` (without the program's name) and leaves those of Google
// Benchmark, which begin with --benchmark_ or --v=. InvalidArgument for anything else.
absl::StatusOr<Flags> ParseFlags(std::vector<std::string>& arguments);

extern const char kFlagsHelp[];

}  // namespace ringcow

#endif  // RINGCOW_BENCH_FLAGS_H_
