#ifndef RINGCOW_CLI_FILE_ATTRIBUTES_H_
#define RINGCOW_CLI_FILE_ATTRIBUTES_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/create_options.h"
#include "cli/program.h"

namespace ringcow {

// What a new file is to be like for its file system. One that does not have it leaves it at that.
struct FileAttributes {
  bool nocow = false;                        // btrfs writes in place
  std::optional<uint32_t> extent_size_hint;  // bytes that XFS allocates at once; 0: as it likes
  const Program* program = nullptr;          // who warns

  bool any() const { return nocow || extent_size_hint.has_value(); }
};

// The options `nocow` and `extent_size_hint`; errors in QEMU's words. `program` must outlive it.
absl::StatusOr<FileAttributes> FileAttributesOf(const Program& program,
                                                const CreateOptionValues& values);

// Sets them; the file is empty. As with QEMU, a hint that is not taken is worth a warning.
void SetFileAttributes(int fd, const FileAttributes& attributes);

}  // namespace ringcow

#endif  // RINGCOW_CLI_FILE_ATTRIBUTES_H_
