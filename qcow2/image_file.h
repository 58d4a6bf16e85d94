#ifndef RINGCOW_QCOW2_IMAGE_FILE_H_
#define RINGCOW_QCOW2_IMAGE_FILE_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/rings.h"
#include "engine/task.h"
#include "qcow2/format/image_format.h"
#include "qcow2/host_file.h"
#include "qcow2/image_source.h"
#include "qcow2/options_of_format.h"

namespace ringcow {

// What holds an image, open and locked, its format known.
class ImageFile {
 public:
  // `name` is one that SourceOf takes. Errors do not name the file once more where the caller
  // does: "Could not open 'x': " goes before them. Unimplemented for the formats of others.
  static Task<absl::StatusOr<ImageFile>> Open(Rings& rings, std::string name,
                                              ImageFileOptions options);
  // `options.format` is of no meaning here.
  static Task<absl::StatusOr<ImageFile>> Open(Rings& rings, ImageSource source,
                                              ImageFileOptions options);

  Disk& disk() const { return host_.disk(); }
  const HostFile& host() const { return host_; }
  ImageFormat format() const { return format_; }
  // The name of the uppermost driver: that of the format, or of what lies on the image, or of what
  // has no format ("file", "null-co").
  std::string driver() const;
  // Nobody said that it is raw; it only looks like no other format.
  bool guessed_raw() const { return guessed_raw_; }
  // What a description of the image said beyond that.
  const FormatOptions& format_options() const { return format_options_; }
  // As that of HostFile.
  Task<absl::Status> Close() { return host_.Close(); }

 private:
  ImageFile(HostFile host, ImageFormat format, bool guessed_raw, FormatOptions format_options)
      : host_(std::move(host)),
        format_(format),
        guessed_raw_(guessed_raw),
        format_options_(std::move(format_options)) {}

  HostFile host_;
  ImageFormat format_;
  bool guessed_raw_;
  FormatOptions format_options_;
};

// `status` without the "'name': " of its disk, for messages that name the image themselves.
absl::Status WithoutName(const absl::Status& status, const Disk& disk);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_IMAGE_FILE_H_
