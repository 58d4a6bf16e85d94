#ifndef RINGCOW_QCOW2_NODE_OPTIONS_H_
#define RINGCOW_QCOW2_NODE_OPTIONS_H_

#include <initializer_list>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "qcow2/image_description.h"
#include "qcow2/image_source.h"

namespace ringcow {

// What the descriptions of all drivers have in common. Errors as those of SourceOf.

// "The option '...' is not supported yet".
absl::Status NotYet(absl::string_view option);

// For a child that is named, not described.
absl::Status NoSuchNode(const std::string& node);

// An option of which only some values are carried out; any other is refused.
absl::Status TakeOneOf(ImageDescription& options, const std::string& name,
                       std::initializer_list<absl::string_view> values);

// Options that a node of any kind may have.
absl::Status TakeNodeOptions(ImageDescription& options, ImageSource& source);

// "discard" and "detect-zeroes", of what a guest sees.
absl::Status TakeGuestOptions(ImageDescription& options, ImageSource& source);

// The child described as `name`, which the driver needs.
absl::StatusOr<ImageDescription> TakeNeededChild(ImageDescription& options,
                                                 const std::string& name);

// InvalidArgument where the driver does not know what is left.
absl::Status CheckNothingIsLeft(const ImageDescription& options, absl::string_view driver);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_NODE_OPTIONS_H_
