#ifndef RINGCOW_TESTS_SUPPORT_QEMU_OPTIONS_H_
#define RINGCOW_TESTS_SUPPORT_QEMU_OPTIONS_H_

#include <string>

#include "qcow2/format/options.h"

namespace ringcow {

// As qemu-img create takes them with -o; without the size and the backing file.
std::string QemuOptions(const CreateOptions& options);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_QEMU_OPTIONS_H_
