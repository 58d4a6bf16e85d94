#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "qcow2/format/image_format.h"
#include "qcow2/image_description.h"
#include "qcow2/image_source.h"
#include "qcow2/options_of_format.h"
#include "tests/fuzz/targets.h"

namespace ringcow {
namespace {

// An option belongs to a child or to the image itself, to the one or the other.
void ExpectChildrenApart(const ImageDescription& description) {
  for (const char* const name : {"file", "backing", "data-file"}) {
    ImageDescription rest = description;
    const std::optional<ImageDescription> child = rest.TakeChild(name);
    const size_t in_child = child.has_value() ? child->options().size() : 0;
    FUZZ_EXPECT(in_child + rest.options().size() == description.options().size());
    for (const auto& [option, value] : rest.options()) {
      FUZZ_EXPECT(!absl::StartsWith(option, absl::StrCat(name, ".")));
    }
    FUZZ_EXPECT(!rest.TakeChild(name).has_value());
  }
}

void ExpectTaken(ImageDescription description) {
  std::vector<std::string> names;
  for (const auto& [name, value] : description.options()) names.push_back(name);
  for (size_t i = 0; i < names.size(); ++i) {
    ImageDescription copy = description;
    if (i < 8) {
      ImageDescription copy = description;
      copy.TakeFlag(names[i]).IgnoreError();
      ImageDescription another = description;
      another.TakeBytes(names[i]).IgnoreError();
    }
    FUZZ_EXPECT(description.Take(names[i]).has_value());
    FUZZ_EXPECT(!description.Take(names[i]).has_value());
  }
  FUZZ_EXPECT(description.options().empty());
}

}  // namespace

void FuzzImageDescription(std::span<const std::byte> input) {
  const absl::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
  SourceOf(text, "").IgnoreError();
  const std::string name = absl::StrCat("json:", text);
  const absl::StatusOr<ImageDescription> description = ImageDescription::FromJson(name);
  const absl::StatusOr<ImageSource> source = SourceOf(name, "");
  if (!description.ok()) {
    FUZZ_EXPECT(!source.ok());
    return;
  }
  ExpectChildrenApart(*description);
  ExpectTaken(*description);
  for (const ImageFormat format : {ImageFormat::kQcow2, ImageFormat::kRaw}) {
    TakeFormatOptions(*description, format).IgnoreError();
    if (source.ok()) TakeFormatOptions(source->options, format).IgnoreError();
  }
}

}  // namespace ringcow
