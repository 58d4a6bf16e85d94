#ifndef RINGCOW_QCOW2_GUEST_AS_DISK_H_
#define RINGCOW_QCOW2_GUEST_AS_DISK_H_

#include <cstdint>
#include <string>

#include "engine/chain.h"
#include "engine/disk.h"
#include "engine/loop.h"
#include "engine/request.h"
#include "engine/task.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// What a guest sees, as a disk of the host: for decorators of disks. Punching is zeroing, and gives
// space back where the guest disk can. Chains and allocation are not supported. What is written
// beyond its end is lost: it is what an aligned request has there.
class GuestAsDisk final : public Disk {
 public:
  // `guest` must outlive the disk.
  GuestAsDisk(Loop& loop, GuestDisk& guest, std::string name);

 protected:
  void Start(Request& request) override;
  void StartChain(Chain& chain) override;

 private:
  Task<void> CarryOut(Request& request);
  Task<int64_t> ResultOf(const Request& request);
  Task<int64_t> Transfer(const Request& request);

  GuestDisk& guest_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_GUEST_AS_DISK_H_
