// `bench`, side by side with qemu-img: the same lines but for the time, the same bytes written.

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

class BenchTest : public testing::Test {
 protected:
  void SetUp() override {
    Qemu(ours_.path(), {"qemu-img", "create", "-q", "-f", "qcow2", "a", "10M"});
    WriteBytes(theirs_.File("a"), ReadBytes(ours_.File("a")));
  }

  static Words BenchWords(const Words& arguments) {
    Words words = {"qemu-img", "bench"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    words.emplace_back("a");
    return words;
  }

  void ExpectSame(const Words& arguments) {
    const Words words = BenchWords(arguments);
    SCOPED_TRACE(testing::PrintToString(words));
    Outcome ours = Ringcow(ours_.path(), words);
    Outcome theirs = Qemu(theirs_.path(), words);
    ours.out = WithoutTimes(ours.out);
    theirs.out = WithoutTimes(theirs.out);
    EXPECT_EQ(ours, theirs);
  }

  void ExpectRefused(const Words& arguments, const std::string& sentence) {
    const Outcome outcome = Ringcow(ours_.path(), BenchWords(arguments));
    EXPECT_EQ(outcome.status, 1);
    EXPECT_NE(outcome.err.find(sentence), std::string::npos) << outcome;
  }

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

TEST_F(BenchTest, SendsTheSameRequests) {
  ExpectSame({"-c", "100"});
  ExpectSame({"-c", "0x10", "-d", "010", "-s", "1k"});
  for (const Words& arguments : std::vector<Words>{
           {"-c", "100", "-w", "--pattern", "1"},
           {"-c", "100", "-w", "--pattern=0x22", "-d", "1", "-o", "1M", "-s", "512"},
           {"-c", "50", "-w", "--pattern", "3", "-S", "192k", "-s", "64k", "-f", "qcow2"},
           // The offsets run over the end and begin anew.
           {"-c", "300", "-w", "--pattern", "4", "-S", "128k", "-s", "4k", "-o", "9M"},
           {"-c", "100", "-w", "--pattern", "5", "-d", "8", "--flush-interval", "10"},
           {"-c", "100", "-w", "--pattern", "6", "--flush-interval", "64", "--no-drain"},
           {"-c", "100", "-w", "-t", "none", "-i", "io_uring", "--pattern", "7"},
           {"-c", "100", "-w", "-t", "none", "-n", "--pattern", "8"},
           {"-c", "20", "-w", "-t", "writethrough", "--pattern", "9"},
           {"-c", "20", "-w", "-t", "directsync", "--pattern", "10"},
           {"-c", "100", "-w", "-t", "unsafe", "--pattern", "11"},
           {"-c", "10", "-w", "-s", "1M", "--pattern", "12"},
           {"-q", "-c", "10"},
       }) {
    ExpectSame(arguments);
    const Outcome compared = Qemu("/", {"qemu-img", "compare", ours_.File("a"), theirs_.File("a")});
    EXPECT_EQ(compared.status, 0) << compared;
    EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "a"}).status, 0);
  }
}

TEST_F(BenchTest, RefusesTheSame) {
  for (const Words& arguments : std::vector<Words>{
           {"-c", "0"},
           {"-c", "x"},
           {"-c", "1k"},
           {"-c", "-1"},
           {"-c", "2147483648"},
           {"-c", "99999999999999999999"},
           {"-d", "0"},
           {"-d", "x"},
           {"-d", "1.5"},
           {"-s", "0"},
           {"-s", "x"},
           {"-s", "3G"},
           {"-S", "x"},
           {"-S", "2G"},
           {"-o", "x"},
           {"-o", "9E"},
           {"-o", "-1"},
           {"--pattern", "256"},
           {"--pattern", "-1"},
           {"--pattern", "0.1k"},
           {"-w", "--flush-interval", "x"},
           {"-w", "--flush-interval", "3G"},
           {"-w", "--flush-interval", "3"},
           {"-w", "--flush-interval", "3", "--no-drain"},
           {"--flush-interval", "3"},
           {"-i", "nonsense"},
           {"-t", "nonsense"},
           {"-f", "nonsense"},
           {"-f", "raw", "b"},
           {"-w", "-U"},
           {"-z"},
           {"--f"},
       }) {
    ExpectSame(arguments);
  }
}

TEST_F(BenchTest, SaysWhereItFailed) {
  ExpectRefused({"-c", "10", "-o", "11M"}, "Failed request: ");
  ExpectRefused({"-c", "10", "-s", "11M"}, "Failed request: ");
  ExpectRefused({"-c", "1000000", "-d", "1000000"}, "queue depth");
  ExpectRefused({"-c", "60000", "-d", "60000", "-s", "2147483647"}, "Could not allocate");
  ExpectRefused({"-i", "threads"}, "io_uring");
  ExpectRefused({"-i", "native"}, "io_uring");
}

}  // namespace
}  // namespace ringcow
