#include "tests/differential/image_setup.h"

#include <algorithm>

#include "tests/support/qemu_options.h"

namespace ringcow {
namespace {

CreateOptions RandomCreateOptions(std::mt19937_64& random) {
  constexpr uint64_t kClusterSizes[] = {512, 512, 4096, 4096, 16384, 65536, 65536, 1 << 20};
  CreateOptions options;
  options.version = random() % 4 == 0 ? 2 : 3;
  options.cluster_size = kClusterSizes[random() % std::size(kClusterSizes)];
  if (options.version == 3) {
    options.refcount_bits = random() % 2 == 0 ? 16 : uint64_t{1} << (random() % 7);
    options.extended_l2 = options.cluster_size >= 16384 && random() % 2 == 0;
    options.lazy_refcounts = random() % 8 == 0;
    if (random() % 2 == 0) options.compression_type = CompressionType::kZstd;
  }
  options.virtual_size = RandomSize(options.cluster_size, random);
  return options;
}

DataFile RandomDataFile(const CreateOptions& options, std::mt19937_64& random) {
  if (options.version < 3 || random() % 4 != 0) return DataFile::kNone;
  return random() % 2 == 0 ? DataFile::kPlain : DataFile::kRaw;
}

std::string InWords(DataFile data_file) {
  if (data_file == DataFile::kNone) return "";
  return data_file == DataFile::kPlain ? ", in a data file" : ", in a raw data file";
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const ImageSetup& setup) {
  out << setup.create.virtual_size << " bytes, " << QemuOptions(setup.create)
      << InWords(setup.data_file);
  if (setup.backing.empty()) return out;
  out << ", on " << setup.base.virtual_size << " bytes, " << setup.backing;
  if (setup.backing == "qcow2") {
    out << ", " << QemuOptions(setup.base) << InWords(setup.base_data_file);
  }
  return out;
}

uint64_t RandomSize(uint64_t cluster_size, std::mt19937_64& random) {
  const uint64_t most = std::clamp<uint64_t>(96 * cluster_size, 1 << 18, 3 << 20);
  const uint64_t size = 512 + random() % most / 512 * 512;
  return random() % 3 == 0 ? (size + cluster_size - 1) / cluster_size * cluster_size : size;
}

ImageSetup RandomImageSetup(std::mt19937_64& random) {
  ImageSetup setup{.create = RandomCreateOptions(random), .backing = "", .base = {}};
  setup.data_file = RandomDataFile(setup.create, random);
  switch (random() % 4) {
    case 0:
      setup.backing = "raw";
      break;
    case 1:
      setup.backing = "qcow2";
      break;
    default:
      break;
  }
  // The raw file would not be the disk.
  if (setup.data_file == DataFile::kRaw) setup.backing = "";
  if (!setup.backing.empty()) setup.base = RandomCreateOptions(random);
  if (setup.backing == "qcow2") setup.base_data_file = RandomDataFile(setup.base, random);
  if (random() % 6 == 0 && (setup.backing.empty() || setup.create.extended_l2)) {
    constexpr Preallocation kAll[] = {Preallocation::kMetadata, Preallocation::kFalloc,
                                      Preallocation::kFull};
    setup.create.preallocation = kAll[random() % 3];
  }
  return setup;
}

}  // namespace ringcow
