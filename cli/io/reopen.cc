#include <getopt.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "cli/io/arguments.h"
#include "cli/io/open_options.h"
#include "cli/io/session.h"
#include "cli/node_name.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

// What an open image can be told.
bool CanChange(absl::string_view option) {
  constexpr absl::string_view kNames[] = {"lazy-refcounts",
                                          "overlap-check",
                                          "discard",
                                          "discard-no-unref",
                                          "pass-discard-request",
                                          "pass-discard-snapshot",
                                          "cache-size",
                                          "l2-cache-size",
                                          "pass-discard-other",
                                          "l2-cache-entry-size",
                                          "refcount-cache-size",
                                          "cache-clean-interval",
                                          "read-only",
                                          "auto-read-only",
                                          "detect-zeroes",
                                          "backing"};
  return std::find(std::begin(kNames), std::end(kNames), option) != std::end(kNames) ||
         absl::StartsWith(option, "overlap-check.") || absl::StartsWith(option, "cache.");
}

using DriverOptions = std::map<std::string, std::string>;

// What was said before and does not go together with what is said now is forgotten, as in QEMU.
void ForgetContradictions(const DriverOptions& changes, DriverOptions& options) {
  if (changes.contains("overlap-check") || changes.contains("overlap-check.template")) {
    options.erase("overlap-check");
    options.erase("overlap-check.template");
  }
  const bool has_both = changes.contains("cache-size");
  const bool has_l2 = changes.contains("l2-cache-size");
  const bool has_refcounts = changes.contains("refcount-cache-size");
  if (has_both) {
    options.erase("l2-cache-size");
    options.erase("refcount-cache-size");
  } else if ((has_l2 || options.contains("l2-cache-size")) &&
             (has_refcounts || options.contains("refcount-cache-size"))) {
    options.erase("cache-size");
  }
}

// The driver of what the image's bytes come from.
std::string DriverBelow(const HostFile& host) {
  const ImageSource& source = host.source();
  if (!source.below.empty()) return NameOfDriver(source.below.back());
  return host.image() != nullptr ? host.image()->file().driver() : source.bottom;
}

// Whether the image was opened with that, said or not.
bool IsSo(const Session& session, const std::string& option, const std::string& value) {
  const DriverOptions& said = session.options().driver_options;
  if (const auto found = said.find(option); found != said.end()) return found->second == value;
  const std::vector<ImageChain::Layer>& layers = session.target().chain().layers();
  if (option == "driver") return layers[0].file.driver() == value;
  if (option == "file.driver") return DriverBelow(layers[0].file.host()) == value;
  return option == "backing.driver" && layers.size() > 1 && layers[1].file.driver() == value;
}

absl::Status CannotChange(absl::string_view option) {
  // The child knows it without its own name.
  for (const char* child : {"file.", "backing.", "data-file."}) {
    if (absl::ConsumePrefix(&option, child)) break;
  }
  return absl::InvalidArgumentError(absl::StrFormat("Cannot change the option '%s'", option));
}

absl::Status Change(const Session& session, const DriverOptions& changes, TargetOptions& options) {
  ForgetContradictions(changes, options.driver_options);
  for (const auto& [name, value] : changes) {
    if (IsSo(session, name, value)) continue;
    if (!CanChange(name)) return CannotChange(name);
    options.driver_options[name] = value;
  }
  return absl::OkStatus();
}

struct Changes {
  bool has_direction = false;  // -r or -w
  bool has_cache = false;      // -c
  TargetOptions said;          // its driver_options: -o
};

absl::Status SetChange(int key, Changes& changes, TargetOptions& options) {
  switch (key) {
    case 'c':
      changes.has_cache = true;
      return SetOpenOption('t', optarg, options);
    case 'o':
      return SetDriverOptions(optarg, changes.said);
    default:
      if (changes.has_direction) {
        return absl::InvalidArgumentError("Only one -r/-w option may be given");
      }
      changes.has_direction = true;
      options.read_only = key == 'r';
      return absl::OkStatus();
  }
}

absl::Status CheckContradictions(const Changes& changes) {
  const DriverOptions& said = changes.said.driver_options;
  if (changes.has_direction && said.contains("read-only")) {
    return absl::InvalidArgumentError("Cannot set both -r/-w and 'read-only'");
  }
  if (changes.has_cache && (said.contains("cache.direct") || said.contains("cache.no-flush"))) {
    return absl::InvalidArgumentError("Cannot set both -c and the cache options");
  }
  return absl::OkStatus();
}

Task<bool> RunReopen(Session& session, std::vector<std::string> words) {
  IoArguments arguments(kReopen, "c:o:rw", std::move(words));
  TargetOptions options = session.options();
  Changes changes;
  while (const std::optional<int> key = arguments.Next()) {
    if (!session.Say(SetChange(*key, changes, options))) co_return false;
  }
  if (arguments.failed()) co_return false;
  if (!arguments.rest().empty()) {
    absl::PrintF("%s\n", Usage(kReopen));
    co_return false;
  }
  absl::Status status = CheckContradictions(changes);
  if (status.ok()) status = Change(session, changes.said.driver_options, options);
  if (status.ok()) status = co_await session.Reopen(options);
  co_return session.Say(status);
}

}  // namespace

const IoCommand kReopen = {
    .name = "reopen",
    .max_arguments = -1,
    .synopsis = "[(-r|-w)] [-c cache] [-o options]",
    .summary = "reopens an image with new options",
    .run = RunReopen,
};

}  // namespace ringcow
