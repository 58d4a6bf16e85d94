#include "cli/options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ringcow {

OptionParser::OptionParser(const Program& program, std::span<const OptionSpec> specs, int argc,
                           char** argv)
    : program_(program),
      specs_(specs),
      argc_(argc),
      argv_(argv),
      invocation_(program.invocation()) {
  for (const OptionSpec& spec : specs) {
    const int has_argument = spec.argument == nullptr ? no_argument : required_argument;
    long_options_.push_back({spec.name, has_argument, nullptr, spec.key});
    if (spec.key >= kFirstLongOnlyKey) continue;
    absl::StrAppend(&short_options_, std::string(1, static_cast<char>(spec.key)),
                    has_argument == required_argument ? ":" : "");
  }
  long_options_.push_back({nullptr, 0, nullptr, 0});
  argv_[0] = invocation_.data();
  optind = 0;  // glibc: begin anew
}

std::optional<int> OptionParser::Next() {
  const int key = getopt_long(argc_, argv_, short_options_.c_str(), long_options_.data(), nullptr);
  if (key == -1) return std::nullopt;
  if (key == kBadOption) {
    program_.SayWhereHelpIs();
    return kBadOption;
  }
  for (const OptionSpec& spec : specs_) {
    if (spec.key != key || spec.refusal == nullptr) continue;
    program_.Error(absl::StrFormat("option '--%s' %s", spec.name, spec.refusal));
    return kBadOption;
  }
  return key;
}

std::span<char*> OptionParser::rest() const {
  return {argv_ + optind, static_cast<size_t>(argc_ - optind)};
}

std::string DescribeOptions(std::span<const OptionSpec> specs) {
  std::string text;
  for (const OptionSpec& spec : specs) {
    if (spec.refusal != nullptr) continue;
    const std::string letter =
        spec.key < kFirstLongOnlyKey ? absl::StrFormat("-%c, ", spec.key) : std::string(4, ' ');
    const std::string argument = spec.argument == nullptr ? "" : absl::StrCat(" ", spec.argument);
    absl::StrAppendFormat(&text, "  %-30s  %s\n", absl::StrCat(letter, "--", spec.name, argument),
                          spec.help);
  }
  return text;
}

}  // namespace ringcow
