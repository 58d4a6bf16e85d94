#ifndef RINGCOW_QCOW2_CHECK_ORACLE_H_
#define RINGCOW_QCOW2_CHECK_ORACLE_H_

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "engine/disk.h"
#include "engine/loop.h"
#include "engine/testing/disk_image.h"
#include "qcow2/check.h"
#include "qcow2/repair.h"

namespace ringcow {

// For tests: what a check of an image says, from this engine or from qemu-img, in a form in which
// the two can be compared.
struct CheckReport {
  // qemu-img's exit code: 0 clean, 1 the check failed, 2 corruptions, 3 leaks.
  int exit_code = -1;
  // Meaningless when the image could not be opened or the check stopped.
  CheckResult result;
  std::vector<std::string> lines;  // of findings
  std::string error;               // why the image could not be opened or checked

  bool operator==(const CheckReport& other) const;
  friend std::ostream& operator<<(std::ostream& out, const CheckReport& report);
};

// With CheckImage.
CheckReport CheckDisk(Loop& loop, Disk& disk);
CheckReport CheckSimulated(DiskImage image);
// Reads the file first, all of it.
CheckReport CheckFile(const std::string& path);

// With RepairImage, after which the file is checked again if something was repaired. `lines` has
// those of both.
CheckReport RepairFile(const std::string& path, RepairScope scope);

// With `qemu-img check`, and with its -r. Ends the test when there is no qemu-img.
CheckReport QemuCheck(const std::string& path);
CheckReport QemuRepair(const std::string& path, RepairScope scope);

// Runs `command` in a shell and gives back what it wrote to stdout and stderr, or ends the process
// with that when it fails.
std::string Shell(const std::string& command);

// A qcow2 file in the test's directory, to be damaged. All numbers are big-endian, as in the file.
class ImageFile {
 public:
  // `qemu-img create -o options`, then each of `commands`: one of qemu-io's ("write 0 64k"), or of
  // the shell's ("$ qemu-img snapshot -c one FILE", FILE being the image).
  ImageFile(const std::string& options, const std::string& size,
            const std::vector<std::string>& commands);
  ~ImageFile();
  ImageFile(const ImageFile&) = delete;
  ImageFile& operator=(const ImageFile&) = delete;

  const std::string& path() const { return path_; }

  uint64_t Get64(uint64_t offset) const;
  uint32_t Get32(uint64_t offset) const;
  uint16_t Get16(uint64_t offset) const;
  void Put64(uint64_t offset, uint64_t value);
  void Put32(uint64_t offset, uint32_t value);
  void Put16(uint64_t offset, uint16_t value);
  void Truncate(uint64_t size);

  // Where tables begin.
  uint64_t l1() const { return Get64(40); }
  uint64_t l2() const { return Get64(l1()) & 0x00fffffffffffe00; }  // the first
  uint64_t refcount_table() const { return Get64(48); }
  uint64_t refcount_block() const { return Get64(refcount_table()); }  // the first
  uint64_t snapshots() const { return Get64(64); }

 private:
  void Get(uint64_t offset, void* bytes, size_t length) const;
  void Put(uint64_t offset, const void* bytes, size_t length);

  std::string path_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_ORACLE_H_
