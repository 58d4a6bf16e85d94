#include "cli/io/session.h"

namespace ringcow {
namespace {

Task<bool> RunFlush(Session& session, std::vector<std::string> /*words*/) {
  co_return session.HasFlushed(co_await session.disk().Flush());
}

}  // namespace

const IoCommand kFlush = {
    .name = "flush",
    .alias = "f",
    .summary = "flush all in-core file state to disk",
    .run = RunFlush,
};

}  // namespace ringcow
