#ifndef RINGCOW_QCOW2_BROKEN_IMAGES_H_
#define RINGCOW_QCOW2_BROKEN_IMAGES_H_

#include <functional>
#include <string>
#include <vector>

#include "qcow2/check_oracle.h"

namespace ringcow {

// For tests: images that qemu-img makes, and what may be wrong in one of them.
struct Damage {
  std::string name;
  std::function<void(ImageFile&)> apply;
  // Why a repair is not that of QEMU. Empty: they are alike.
  std::string repaired_otherwise = "";
};

struct BrokenImages {
  std::string name;
  std::string options;                // as ImageFile has them
  std::vector<std::string> commands;  // of 64 MiB
  std::vector<Damage> damages;        // each alone
};

std::vector<BrokenImages> AllBrokenImages();

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BROKEN_IMAGES_H_
