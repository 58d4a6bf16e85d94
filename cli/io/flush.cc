#include "cli/io/session.h"

namespace ringcow {
namespace {

Task<bool> RunFlush(Session& session, std::vector<std::string> /*words*/) {
  const absl::Status status = co_await session.disk().Flush();
  if (!status.ok()) session.program().Error(MessageOf(status));
  co_return status.ok();
}

}  // namespace

const IoCommand kFlush = {
    .name = "flush",
    .alias = "f",
    .summary = "flush all in-core file state to disk",
    .run = RunFlush,
};

}  // namespace ringcow
