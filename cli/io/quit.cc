#include "cli/io/session.h"

namespace ringcow {
namespace {

Task<bool> RunQuit(Session& session, std::vector<std::string> /*words*/) {
  session.Quit();
  co_return true;
}

}  // namespace

const IoCommand kQuit = {
    .name = "quit",
    .alias = "q",
    .summary = "exit the program",
    .needs_image = false,
    .run = RunQuit,
};

}  // namespace ringcow
