"""Makes a test of the README's C++: make_library_test.py README.md > library_test.cc

The first block is a coroutine and then what a program does with it; the second is inside of one.
"""

import re
import sys

TEST = """
{includes}
#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "qcow2/image_chain.h"
#include "tests/support/hosts.h"

namespace ringcow {{
{work}
Task<absl::Status> Look(absl::StatusOr<std::unique_ptr<Rings>>& rings, std::span<std::byte> bytes) {{
{look}
}}

TEST(Readme, TheLibraryWorksAsItSays) {{
  ASSERT_EQ(chdir(testing::TempDir().c_str()), 0);
  ASSERT_EQ(Create(FileHost("disk.qcow2").disk(), {{.virtual_size = 1 << 20}}), absl::OkStatus());
  ASSERT_EQ(Create(FileHost("overlay.qcow2").disk(), {{.virtual_size = 1 << 20,
                                                      .backing_file = "disk.qcow2",
                                                      .backing_format = "qcow2"}}),
            absl::OkStatus());
  const std::vector<std::byte> bytes(10'000, std::byte{{7}});
  {{
{program}
    ASSERT_EQ(status, absl::OkStatus());
  }}
  Loop loop;
  auto rings = Rings::Create(loop);
  std::vector<std::byte> found(bytes.size());
  ASSERT_EQ(loop.Run(Look(rings, found)), absl::OkStatus());
  EXPECT_EQ(found, bytes);
}}
}}  // namespace ringcow
"""

with open(sys.argv[1], encoding="utf-8") as readme:
    blocks = re.findall(r"```cpp\n(.*?)```", readme.read(), re.DOTALL)
assert len(blocks) == 2, "the README has other C++ than this script knows of"
includes = "".join(re.findall(r"#include .*\n", blocks[0]))
work, loop, program = re.sub(r"#include .*\n", "", blocks[0]).partition("Loop loop;")
assert loop, "the README's program begins with a loop"
print(TEST.format(includes=includes, work=work, program=loop + program, look=blocks[1]))
