#ifndef RINGCOW_QCOW2_BLKDEBUG_BLKDEBUG_DISK_H_
#define RINGCOW_QCOW2_BLKDEBUG_BLKDEBUG_DISK_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/request.h"
#include "engine/task.h"
#include "qcow2/blkdebug/breakpoints.h"
#include "qcow2/blkdebug/event.h"
#include "qcow2/blkdebug/options.h"
#include "qcow2/blkdebug/rules.h"
#include "qcow2/stacked_disk.h"

namespace ringcow {

// Another disk, whose requests fail, stop and are cut into pieces as QEMU's blkdebug has it.
//
// Rules and breakpoints see each request before it is carried out, by what its bytes are. The space
// that is allocated and the size of the disk are not meddled with.
class BlkdebugDisk final : public StackedDisk, public EventListener {
 public:
  // `below` must outlive the disk, and be used by nobody else. InvalidArgument in QEMU's words for
  // what the options say wrongly, or the host's error about their file.
  static absl::StatusOr<std::unique_ptr<BlkdebugDisk>> Open(Disk& below,
                                                            const BlkdebugOptions& options);

  void Happened(DebugEvent event) override { machine_.Happened(event); }
  bool Watches(DebugEvent event) const override {
    return machine_.DependsOn(event) || breakpoints_.HasAt(event);
  }
  Breakpoints& breakpoints() { return breakpoints_; }
  const BlkdebugOptions& options() const { return options_; }

  // What a request of this kind does before it is made: rules take note of it, and it may stop
  // here.
  Task<void> Pass(DebugEvent event) override;
  // 0, or the errno of a rule for such a request, which is then not to be made.
  Task<int> Fail(DebugIo io, HostOffset offset, uint64_t length);

  DiskExtent Find(HostOffset offset, uint64_t length) const override {
    return below_.Find(offset, length);
  }

 private:
  BlkdebugDisk(Disk& below, DebugRules rules, const BlkdebugOptions& options);

  Task<int64_t> ResultOf(Request& request) override;
  Task<int64_t> Transfer(const Request& request);
  Task<int64_t> Zero(const Request& request);
  Task<int64_t> Synchronize();

  Disk& below_;
  const BlkdebugOptions options_;
  DebugMachine machine_;
  Breakpoints breakpoints_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BLKDEBUG_BLKDEBUG_DISK_H_
