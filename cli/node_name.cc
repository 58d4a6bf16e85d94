#include "cli/node_name.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <variant>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "qcow2/format/image_format.h"
#include "qcow2/image_chain.h"

namespace ringcow {
namespace {

constexpr char kBlkdebug[] = "blkdebug";

// Where QEMU's hash table keeps a key: members are told in this order.
uint32_t BucketOf(absl::string_view key) {
  constexpr uint32_t kBuckets = 512;
  auto value = static_cast<uint32_t>(0x238F13AF * key.size());
  for (size_t i = 0; i < key.size(); ++i) {
    value += uint32_t{static_cast<unsigned char>(key[i])} << (i * 5 % 24);
  }
  return (1103515243 * value + 12345) % kBuckets;
}

Json::Object InQemusOrder(Json::Object members) {
  std::ranges::sort(members, {}, [](const auto& member) { return BucketOf(member.first); });
  return members;
}

// What options are in JSON: numbers, flags, or text.
Json JsonOf(const std::string& value) {
  uint64_t number = 0;
  if (absl::SimpleAtoi(value, &number)) return Json(number);
  return value == "on" || value == "off" ? Json(value == "on") : Json(value);
}

Json::Object OptionsOf(const std::string& driver, const std::map<std::string, std::string>& more) {
  Json::Object options = {{"driver", Json(driver)}};
  for (const auto& [name, value] : more) options.emplace_back(name, JsonOf(value));
  return options;
}

NodeName PutBlkdebug(const BlkdebugOptions& blkdebug, const NodeName& image) {
  NodeName name;
  if (blkdebug.given.empty() && image.plain.has_value()) {
    name.plain = absl::StrCat(kBlkdebug, ":", blkdebug.config, ":", *image.plain);
  }
  Json::Object options = OptionsOf(kBlkdebug, blkdebug.given);
  if (!blkdebug.config.empty()) options.emplace_back("config", Json(blkdebug.config));
  options.emplace_back("image", Json(image.options));
  name.options = InQemusOrder(std::move(options));
  return name;
}

NodeName PutFilter(const std::string& driver, const NodeName& file) {
  Json::Object options = {{"driver", Json(driver)}, {"file", Json(file.options)}};
  return {.options = InQemusOrder(std::move(options))};
}

template <typename Driver>
NodeName Put(const Driver& driver, const NodeName& below) {
  const auto* const blkdebug = std::get_if<BlkdebugOptions>(&driver);
  return blkdebug != nullptr ? PutBlkdebug(*blkdebug, below)
                             : PutFilter(NameOfDriver(driver), below);
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as drivers are nested, which is bounded.
NodeName NameOfQuorum(const HostFile& host, const QuorumSource& quorum) {
  Json::Array children;
  for (const auto& child : host.children()) children.emplace_back(NameOfFile(*child).options);
  return {.options = InQemusOrder({{"driver", Json(host.source().bottom)},
                                   {"vote-threshold", Json(uint64_t{quorum.threshold})},
                                   {"children", Json(std::move(children))}})};
}

NodeName NameOfBottom(const HostFile& host) {
  const ImageSource& source = host.source();
  if (source.quorum.has_value()) return NameOfQuorum(host, *source.quorum);
  if (host.image() != nullptr) return NameOfImage(host.image()->file());
  if (!source.nowhere.has_value()) {
    return {.plain = host.path(),
            .options = {{"driver", Json(source.bottom)}, {"filename", Json(host.path())}}};
  }
  const std::map<std::string, std::string>& given = source.nowhere->given;
  NodeName name;
  if (given.empty()) name.plain = absl::StrCat(source.bottom, "://");
  name.options = InQemusOrder(OptionsOf(source.bottom, given));
  return name;
}

// Without a format, which the name of nothing else than a file or a blkdebug leaves open.
bool IsProtocol(const HostFile& host) {
  const ImageSource& source = host.source();
  if (source.below.empty()) return host.image() == nullptr;
  return std::holds_alternative<BlkdebugOptions>(source.below.back());
}

}  // namespace

std::string NodeName::Text() const {
  return plain.has_value() ? *plain : absl::StrCat("json:", Json(options).Line());
}

NodeName NameOfFile(const HostFile& host, size_t below) {
  NodeName name = NameOfBottom(host);
  for (size_t i = 0; i < below; ++i) name = Put(host.source().below[i], name);
  return name;
}

NodeName NameOfFile(const HostFile& host) { return NameOfFile(host, host.source().below.size()); }

NodeName NameOfImage(const ImageFile& file, size_t above) {
  const HostFile& host = file.host();
  const ImageSource& source = host.source();
  NodeName name = NameOfFile(host);
  if (!source.has_no_format) {
    const std::string format(FormatName(file.format()));
    Json::Object options = OptionsOf(format, source.distinctions);
    options.emplace_back("file", Json(std::move(name.options)));
    name.options = InQemusOrder(std::move(options));
    if (!source.distinctions.empty() || !IsProtocol(host)) name.plain.reset();
  }
  for (size_t i = 0; i < above; ++i) name = Put(source.above[i], name);
  return name;
}

NodeName NameOfImage(const ImageFile& file) {
  return NameOfImage(file, file.host().source().above.size());
}

std::string NameOfDriver(const DiskDriver& driver) {
  return std::holds_alternative<BlkdebugOptions>(driver) ? kBlkdebug : "preallocate";
}

std::string NameOfDriver(const GuestDriver& driver) {
  if (std::holds_alternative<BlkdebugOptions>(driver)) return kBlkdebug;
  return std::holds_alternative<CompressDriver>(driver) ? "compress" : "copy-on-read";
}

}  // namespace ringcow
