#include "qcow2/format/image_format.h"

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

absl::string_view Probe(const std::string& text) {
  return ProbeFormat(std::as_bytes(std::span(text)));
}

TEST(ImageFormatTest, KnowsTheNamesOfItsFormatsOnly) {
  EXPECT_EQ(FormatByName("qcow2"), ImageFormat::kQcow2);
  EXPECT_EQ(FormatByName("raw"), ImageFormat::kRaw);
  for (const char* other : {"", "qcow", "QCOW2", "vmdk", "raw "}) {
    EXPECT_EQ(FormatByName(other), std::nullopt) << other;
  }
  EXPECT_EQ(FormatName(ImageFormat::kQcow2), "qcow2");
  EXPECT_EQ(FormatName(ImageFormat::kRaw), "raw");
}

TEST(ImageFormatTest, SeesMarks) {
  EXPECT_EQ(Probe(std::string("QFI\xfb\0\0\0\3", 8)), "qcow2");
  EXPECT_EQ(Probe(std::string("QFI\xfb\0\0\0\2", 8)), "qcow2");
  // A version that does not exist is refused by the parser, not taken for raw.
  EXPECT_EQ(Probe(std::string("QFI\xfb\0\0\0\7", 8)), "qcow2");
  EXPECT_EQ(Probe(std::string("QFI\xfb\0\0\0\1", 8)), "qcow");
  EXPECT_EQ(Probe("KDMV"), "vmdk");
  EXPECT_EQ(Probe("conectix"), "vpc");
  EXPECT_EQ(Probe("vhdxfile"), "vhdx");
  EXPECT_EQ(Probe(std::string(64, 'x') + "\x7f\x10\xda\xbe"), "vdi");
}

TEST(ImageFormatTest, TakesForRawWhatHasNoMark) {
  EXPECT_EQ(Probe(""), "raw");
  EXPECT_EQ(Probe("QFI"), "raw");
  EXPECT_EQ(Probe(std::string(kProbeBytes, '\0')), "raw");
  // Not at its place, or cut off.
  EXPECT_EQ(Probe(" QFI\xfb"), "raw");
  EXPECT_EQ(Probe(std::string(64, 'x') + "\x7f\x10\xda"), "raw");
}

}  // namespace
}  // namespace ringcow
