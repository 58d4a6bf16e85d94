#include "tests/support/qemu_options.h"

#include "absl/strings/str_cat.h"

namespace ringcow {

std::string QemuOptions(const CreateOptions& options) {
  std::string text =
      absl::StrCat("compat=", std::string(CompatName(options.version)),
                   ",cluster_size=", options.cluster_size, ",refcount_bits=", options.refcount_bits,
                   ",lazy_refcounts=", options.lazy_refcounts ? "on" : "off",
                   ",compression_type=", std::string(CompressionTypeName(options.compression_type)),
                   ",extended_l2=", options.extended_l2 ? "on" : "off",
                   ",preallocation=", std::string(PreallocationName(options.preallocation)));
  if (!options.data_file.empty()) {
    absl::StrAppend(&text, ",data_file=", options.data_file,
                    ",data_file_raw=", options.data_file_raw ? "on" : "off");
  }
  return text;
}

}  // namespace ringcow
