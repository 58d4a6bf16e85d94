#include "tests/explorer/script.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

const Operation& Choose(const Scenario& scenario, std::mt19937_64& random) {
  uint32_t sum = 0;
  for (const WeightedOperation& weighted : scenario.mix) sum += weighted.weight;
  uint64_t left = random() % sum;
  for (const WeightedOperation& weighted : scenario.mix) {
    if (left < weighted.weight) return *weighted.operation;
    left -= weighted.weight;
  }
  RINGCOW_INVARIANT(false, "weights add up to their sum");
}

// Workers take turns in groups of units. The first quarter of the disk, where nothing has been
// filled, gets half of the requests.
UnitRange ChooseRange(const Scenario& scenario, size_t worker, uint64_t max_units,
                      std::mt19937_64& random) {
  const uint64_t groups = scenario.units() / scenario.group_units / scenario.workers;
  const uint64_t group = random() % (random() % 2 == 0 ? groups / 4 + 1 : groups);
  const uint64_t count = 1 + random() % std::min(max_units, scenario.group_units);
  const uint64_t first = (group * scenario.workers + worker) * scenario.group_units;
  return {first + random() % (scenario.group_units - count + 1), count};
}

std::string StepToString(const Step& step) {
  std::string text = absl::StrFormat("%d:%s", step.worker, step.operation->name);
  if (step.operation->max_units > 0) {
    absl::StrAppendFormat(&text, "@%d+%d", step.range.first, step.range.count);
  }
  return text;
}

absl::StatusOr<Step> ParseStep(absl::string_view text, uint64_t units) {
  const auto malformed = [text](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrFormat("step '%s' %s", text, why));
  };
  const std::pair<absl::string_view, absl::string_view> worker_and_rest =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  const std::pair<absl::string_view, absl::string_view> name_and_range =
      absl::StrSplit(worker_and_rest.second, absl::MaxSplits('@', 1));
  Step step;
  if (!absl::SimpleAtoi(worker_and_rest.first, &step.worker)) return malformed("has no worker");
  step.operation = FindOperation(name_and_range.first);
  if (step.operation == nullptr) return malformed("names no operation");
  if (step.operation->max_units == 0) return step;
  const std::pair<absl::string_view, absl::string_view> range =
      absl::StrSplit(name_and_range.second, absl::MaxSplits('+', 1));
  if (!absl::SimpleAtoi(range.first, &step.range.first) ||
      !absl::SimpleAtoi(range.second, &step.range.count)) {
    return malformed("has no range");
  }
  if (step.range.count == 0 || step.range.count > units ||
      step.range.first > units - step.range.count) {
    return malformed("is outside of the disk");
  }
  return step;
}

}  // namespace

Script MakeScript(const Scenario& scenario) {
  Script script;
  for (size_t worker = 0; worker < scenario.workers; ++worker) {
    std::mt19937_64 random(scenario.seed * 100 + worker);
    for (size_t i = 0; i < scenario.steps; ++i) {
      const Operation& operation = Choose(scenario, random);
      Step step{worker, &operation, UnitRange()};
      if (operation.max_units > 0) {
        step.range = ChooseRange(scenario, worker, operation.max_units, random);
      }
      script.push_back(step);
    }
  }
  return script;
}

std::string ToString(const Script& script) {
  return absl::StrJoin(script, " ", [](std::string* out, const Step& step) {
    absl::StrAppend(out, StepToString(step));
  });
}

absl::StatusOr<Script> ParseScript(absl::string_view text, uint64_t units) {
  Script script;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    const absl::StatusOr<Step> step = ParseStep(word, units);
    RETURN_IF_ERROR(step.status());
    script.push_back(*step);
  }
  return script;
}

}  // namespace ringcow
