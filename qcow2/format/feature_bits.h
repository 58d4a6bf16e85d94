#ifndef RINGCOW_QCOW2_FORMAT_FEATURE_BITS_H_
#define RINGCOW_QCOW2_FORMAT_FEATURE_BITS_H_

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace ringcow {

// The three feature fields of a version 3 header. An image with an unknown incompatible bit must
// not be opened; an unknown compatible bit is kept; an unknown autoclear bit is cleared by whoever
// opens the image for writing, for the data it guards will not be kept up to date.
enum class FeatureType : uint8_t { kIncompatible = 0, kCompatible = 1, kAutoclear = 2 };

inline constexpr uint64_t kIncompatibleDirty = uint64_t{1} << 0;
inline constexpr uint64_t kIncompatibleCorrupt = uint64_t{1} << 1;
inline constexpr uint64_t kIncompatibleExternalDataFile = uint64_t{1} << 2;
inline constexpr uint64_t kIncompatibleCompressionType = uint64_t{1} << 3;
inline constexpr uint64_t kIncompatibleExtendedL2 = uint64_t{1} << 4;
// Every incompatible bit the specification defines. That a bit is known does not mean that this
// build supports it: see unsupported.h.
inline constexpr uint64_t kKnownIncompatibleFeatures =
    kIncompatibleDirty | kIncompatibleCorrupt | kIncompatibleExternalDataFile |
    kIncompatibleCompressionType | kIncompatibleExtendedL2;

inline constexpr uint64_t kCompatibleLazyRefcounts = uint64_t{1} << 0;

inline constexpr uint64_t kAutoclearBitmaps = uint64_t{1} << 0;
inline constexpr uint64_t kAutoclearRawExternalData = uint64_t{1} << 1;
// Ours, of those that the specification leaves open: there is a record of what is reserved (see
// reserve_record.h), and nobody who does not know it has written to the image since.
inline constexpr uint64_t kAutoclearReserveRecord = uint64_t{1} << 63;
// What may stay set in an image that this build writes to, because it is kept up to date.
inline constexpr uint64_t kMaintainedAutoclearFeatures =
    kAutoclearBitmaps | kAutoclearRawExternalData;

struct KnownFeature {
  FeatureType type = FeatureType::kIncompatible;
  uint8_t bit = 0;
  absl::string_view name;
};

// In the order in which QEMU writes them into the feature name table.
inline constexpr std::array<KnownFeature, 8> kKnownFeatures = {{
    {FeatureType::kIncompatible, 0, "dirty bit"},
    {FeatureType::kIncompatible, 1, "corrupt bit"},
    {FeatureType::kIncompatible, 2, "external data file"},
    {FeatureType::kIncompatible, 3, "compression type"},
    {FeatureType::kIncompatible, 4, "extended L2 entries"},
    {FeatureType::kCompatible, 0, "lazy refcounts"},
    {FeatureType::kAutoclear, 0, "bitmaps"},
    {FeatureType::kAutoclear, 1, "raw external data"},
}};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_FEATURE_BITS_H_
