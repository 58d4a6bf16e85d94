#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/status_macros.h"
#include "engine/uring_disk.h"
#include "gtest/gtest.h"
#include "qcow2/commit.h"
#include "qcow2/create.h"
#include "qcow2/image_chain.h"
#include "tests/differential/hand.h"
#include "tests/support/work_ahead.h"

namespace ringcow {
namespace {

using Kind = GuestRequest::Kind;

Task<absl::Status> Carry(GuestDisk& disk, const GuestRequest& request) {
  const GuestOffset offset(request.offset);
  switch (request.kind) {
    case Kind::kRead: {
      std::vector<std::byte> bytes(request.length);
      co_return co_await disk.Read(offset, bytes);
    }
    case Kind::kWrite: {
      const std::vector<std::byte> bytes(request.length, std::byte{request.pattern});
      co_return co_await disk.Write(offset, bytes);
    }
    case Kind::kZero:
      co_return co_await disk.WriteZeroes(offset, request.length, ZeroManner::kKeepSpace);
    case Kind::kZeroAndUnmap:
      co_return co_await disk.WriteZeroes(offset, request.length, ZeroManner::kMayUnmap);
    case Kind::kDiscard:
      co_return co_await disk.Discard(offset, request.length);
    case Kind::kWriteCompressed: {
      const std::vector<std::byte> bytes(request.length, std::byte{request.pattern});
      co_return co_await disk.WriteCompressed(offset, bytes);
    }
  }
  co_return absl::InternalError("a request of no kind");
}

Snapshot Named(const std::string& name) {
  Snapshot snapshot;
  snapshot.name = name;
  return snapshot;
}

size_t IndexOf(const Image& image, const std::string& name) {
  const auto& all = image.snapshots();
  return static_cast<size_t>(
      std::find_if(all.begin(), all.end(), [&name](const Snapshot& s) { return s.name == name; }) -
      all.begin());
}

Task<absl::Status> Carry(ImageChain& chain, const Step& step) {
  Image& image = *chain.image();
  switch (step.kind) {
    case Step::Kind::kCopyOnRead:
    case Step::Kind::kRequests:
      for (const GuestRequest& request : step.requests) {
        CO_RETURN_IF_ERROR(co_await Carry(image, request));
      }
      co_return absl::OkStatus();
    case Step::Kind::kCreateSnapshot:
      co_return co_await image.CreateSnapshot(Named(step.snapshot));
    case Step::Kind::kApplySnapshot:
      co_return co_await image.ApplySnapshot(IndexOf(image, step.snapshot));
    case Step::Kind::kDeleteSnapshot:
      co_return co_await image.DeleteSnapshot(IndexOf(image, step.snapshot));
    case Step::Kind::kResize:
      co_return co_await image.Resize(step.size, Preallocation::kOff);
    case Step::Kind::kCommit:
      co_return co_await Commit(chain, {});
    case Step::Kind::kAddBitmap:
      co_return co_await image.AddBitmap(step.bitmap, step.granularity, step.enabled);
    case Step::Kind::kRemoveBitmap:
      co_return co_await image.RemoveBitmap(step.bitmap);
    case Step::Kind::kClearBitmap:
      co_return co_await image.ClearBitmap(step.bitmap);
    case Step::Kind::kEnableBitmap:
    case Step::Kind::kDisableBitmap:
      co_return co_await image.SetBitmapEnabled(step.bitmap,
                                                step.kind == Step::Kind::kEnableBitmap);
    case Step::Kind::kMergeBitmap: {
      CO_ASSIGN_OR_RETURN(const DirtyBitmap source, co_await image.ReadBitmap(step.source));
      co_return co_await image.MergeBitmap(step.bitmap, source);
    }
  }
  co_return absl::InternalError("a step of no kind");
}

OpenOptions RandomOpenOptions(std::mt19937_64& random) {
  OpenOptions options;
  if (random() % 2 == 0) options.l2_cache_bytes = 2 * options.cache_slice_bytes;
  if (random() % 2 == 0) options.refcount_cache_bytes = 2 * options.cache_slice_bytes;
  if (random() % 4 == 0) options.write_back.mode = CacheMode::kWritethrough;
  SwitchWorkAhead(options, random);
  return options;
}

}  // namespace

void RingcowHand::Create(const std::string& path, const CreateOptions& options,
                         const std::string& backing, const std::string& format) {
  Loop loop;
  auto rings = Rings::Create(loop);
  ASSERT_TRUE(rings.ok()) << rings.status();
  auto disk = UringDisk::Open(**rings, path, {.creation = UringDisk::Creation::kIfMissing});
  ASSERT_TRUE(disk.ok()) << disk.status();
  CreateOptions with_backing = options;
  with_backing.backing_file = backing;
  with_backing.backing_format = format;
  std::unique_ptr<UringDisk> data_file;
  if (!options.data_file.empty()) {
    auto opened =
        UringDisk::Open(**rings, options.data_file, {.creation = UringDisk::Creation::kIfMissing});
    ASSERT_TRUE(opened.ok()) << opened.status();
    data_file = *std::move(opened);
  }
  ASSERT_EQ(loop.Run(CreateImage(**disk, with_backing, data_file.get())), absl::OkStatus());
}

void RingcowHand::Do(const std::string& path, const Step& step) {
  Loop loop;
  auto rings = Rings::Create(loop);
  ASSERT_TRUE(rings.ok()) << rings.status();
  OpenOptions options = RandomOpenOptions(random_);
  options.copy_on_read = step.kind == Step::Kind::kCopyOnRead;
  ImageChainOptions chain_options = {.file = {.format = "qcow2"}, .image = options};
  if (step.kind == Step::Kind::kCommit) chain_options.also_writable = 1;
  auto chain = loop.Run(ImageChain::Open(**rings, path, std::move(chain_options)));
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_EQ(loop.Run(Carry(**chain, step)), absl::OkStatus());
  EXPECT_EQ(loop.Run((*chain)->Close()), absl::OkStatus());
}

}  // namespace ringcow
