#ifndef RINGCOW_CLI_NODE_NAME_H_
#define RINGCOW_CLI_NODE_NAME_H_

#include <cstddef>
#include <optional>
#include <string>

#include "cli/json.h"
#include "qcow2/host_file.h"
#include "qcow2/image_file.h"

namespace ringcow {

// What an image, or a part of what it lies on, is called in QEMU's language: by a name that opens
// it again, if there is one, else by its options.
struct NodeName {
  std::optional<std::string> plain = std::nullopt;  // "a.qcow2", "blkdebug:conf:a.qcow2"
  Json::Object options = {};                        // in the order of QEMU's hash table

  // `plain`, or "json:{...}".
  std::string Text() const;
};

// Of the file, or whatever it is instead, with the lowest `below` of what lies on it.
NodeName NameOfFile(const HostFile& host, size_t below);
NodeName NameOfFile(const HostFile& host);
// Of the image, with the lowest `above` of what lies on that.
NodeName NameOfImage(const ImageFile& file, size_t above);
NodeName NameOfImage(const ImageFile& file);

// QEMU's names of drivers.
std::string NameOfDriver(const DiskDriver& driver);
std::string NameOfDriver(const GuestDriver& driver);

}  // namespace ringcow

#endif  // RINGCOW_CLI_NODE_NAME_H_
