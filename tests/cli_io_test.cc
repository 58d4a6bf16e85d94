// `io`, side by side with qemu-io: the same commands on copies of one image must say the same (but
// for times) and leave the same bytes on the virtual disk.

#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

Words IoWords(const Words& options, const Words& commands, const std::string& file) {
  Words words = {"qemu-io"};
  words.insert(words.end(), options.begin(), options.end());
  for (const std::string& command : commands) words.insert(words.end(), {"-c", command});
  if (!file.empty()) words.push_back(file);
  return words;
}

Outcome WithoutTimes(Outcome outcome) {
  outcome.out = ringcow::WithoutTimes(outcome.out);
  return outcome;
}

class IoTest : public testing::Test {
 protected:
  void SetUp() override {
    Qemu(ours_.path(), {"qemu-img", "create", "-q", "-f", "qcow2", "a", "64M"});
    CopyToThem("a");
  }

  void CopyToThem(const std::string& name) {
    WriteBytes(theirs_.File(name), ReadBytes(ours_.File(name)));
  }

  void ExpectSame(const Words& options, const Words& commands, const std::string& file = "a") {
    const Words words = IoWords(options, commands, file);
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_EQ(WithoutTimes(Ringcow(ours_.path(), words)),
              WithoutTimes(Qemu(theirs_.path(), words)));
  }
  void ExpectSame(const Words& commands) { ExpectSame({"-f", "qcow2"}, commands); }

  // Both images are clean and hold the same.
  void ExpectSameDisks(const std::string& format, const std::string& name) {
    const Outcome compared = Qemu("/", {"qemu-img", "compare", "-f", format, "-F", format,
                                        ours_.File(name), theirs_.File(name)});
    EXPECT_EQ(compared.status, 0) << compared;
    if (format != "qcow2") return;
    const Outcome checked = Qemu(ours_.path(), {"qemu-img", "check", name});
    EXPECT_EQ(checked.status, 0) << checked;
  }

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

TEST_F(IoTest, ReadsAndWrites) {
  ExpectSame({"write -P 0x55 0 64k", "read -P 0x55 0 64k", "read -P 0x56 0 64k", "read -v 0 32",
              "read -v 100 20", "read -P 0x55 -s 100 -l 200 0 64k", "read -P 0 -s 64k 0 128k",
              "read -C 0 64k", "read -q 0 64k", "read -q -v 0 64k", "write -q 0 64k",
              "write -C 1k 1k", "flush", "f", "length", "l", "r 0 10", "w 3 10", "read 3 10"});
  ExpectSame({"write 1M 1.5M", "read 0x100 0x200", "read 1.5k 1k", "write 0 0", "read 0 0",
              "write -P 7 65535 2", "write -f -P 8 63M 1M", "read -P 8 63M 1M", "write -p 0 1k"});
  ExpectSame({"readv -P 1 0 10 20 30", "writev -P 1 0 10 20 30", "readv -P 1 0 10 20 30",
              "readv -v 50 1 20"});
  ExpectSameDisks("qcow2", "a");
}

TEST_F(IoTest, WritesCompressed) {
  ExpectSame({"write -c -P 5 0 1M", "read -P 5 0 1M", "write -P 6 64k 10", "write -c -q 2M 64k",
              "write -c -C 3M 128k", "write -c 4M 0", "write -c 100 0", "write -c 1k 100"});
  // Whole clusters that are not there yet.
  ExpectSame({"write -c 0 64k", "write -c 64k 64k", "write -c 5M 4k", "write -c 5M 65k",
              "write -c 5000k 64k", "write -c 64M 64k", "write -c -f 5M 64k"});
  ExpectSame({"-f", "qcow2", "-r"}, {"write -c 5M 64k"});
  ExpectSameDisks("qcow2", "a");
  WriteBytes(ours_.File("r"), std::string(1 << 20, 'r'));
  CopyToThem("r");
  ExpectSame({"-f", "raw"}, {"write -c 0 64k", "write -c 5 5"}, "r");
  for (const char* options :
       {"cluster_size=512", "compression_type=zstd", "extended_l2=on", "compat=0.10"}) {
    Qemu(ours_.path(), {"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "b", "1000k"});
    CopyToThem("b");
    ExpectSame({"-f", "qcow2"},
               {"write -c -P 1 0 512k", "write -c -P 2 960k 40k", "read -P 2 960k 40k"}, "b");
    ExpectSameDisks("qcow2", "b");
  }
}

TEST_F(IoTest, ReadsAndWritesVmState) {
  ExpectSame({"read -b -P 0 0 64k", "write -b -P 5 0 1M", "read -b -P 5 0 1M", "read -b 1T 64k",
              "write -b -P 6 3G 8k", "read -b -P 6 3G 8k", "read -b -P 0 2G 64k",
              "write -b -q 64k 512", "read -P 0 0 64M"});
  ExpectSame({"write -b 100 512", "read -b 512 100", "write -b -z 0 64k", "write -b -f 0 64k",
              "read -b 16E 512", "write -b -n 0 64k"});
  ExpectSameDisks("qcow2", "a");
  // Each reads what the other wrote.
  const Words read = IoWords({"-f", "qcow2"}, {"read -b -P 5 0 64k", "read -b -P 6 3G 8k"}, "a");
  EXPECT_EQ(WithoutTimes(Ringcow(theirs_.path(), read)), WithoutTimes(Qemu(ours_.path(), read)));
  ExpectSame({"-f", "qcow2", "-r"}, {"read -b -P 5 0 64k", "write -b 0 64k"});
  ExpectSame({"-f", "raw"}, {"read -b 0 64k", "write -b 0 64k"});
  // More than the L1 table of small clusters can have.
  Qemu(ours_.path(),
       {"qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "b", "64M"});
  CopyToThem("b");
  ExpectSame({"-f", "qcow2"}, {"write -b 1T 4k", "read -b -P 0 1T 4k", "write -b -P 7 1G 4k"}, "b");
  ExpectSameDisks("qcow2", "b");
}

TEST_F(IoTest, ReadsWhatQemuWroteAndTheReverse) {
  const Words writes = {"write -q -P 1 0 100k", "write -q -P 2 3M 5", "write -q -P 3 33M 2M"};
  const Words reads = {"read -P 1 0 100k", "read -P 0 100k 2M", "read -P 2 3M 5",
                       "read -P 0 3145733 1k", "read -P 3 33M 2M"};
  for (const char* options :
       {"cluster_size=512", "cluster_size=4k,refcount_bits=1", "cluster_size=2M", "compat=0.10"}) {
    for (const bool qemu_writes : {false, true}) {
      Qemu(ours_.path(), {"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "b", "64M"});
      const Words write = IoWords({"-f", "qcow2"}, writes, "b");
      const Words read = IoWords({"-f", "qcow2"}, reads, "b");
      const Outcome wrote = qemu_writes ? Qemu(ours_.path(), write) : Ringcow(ours_.path(), write);
      const Outcome got = qemu_writes ? Ringcow(ours_.path(), read) : Qemu(ours_.path(), read);
      EXPECT_EQ(wrote, Outcome()) << options;
      EXPECT_EQ(got.status, 0) << options << got;
      EXPECT_EQ(got.out.find("Pattern verification failed"), std::string::npos) << options << got;
      EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "b"}).status, 0) << options;
    }
  }
}

TEST_F(IoTest, WorksOnRawFiles) {
  WriteBytes(ours_.File("r"), std::string(100'000, 'r'));
  CopyToThem("r");
  ExpectSame({"-f", "raw"},
             {"length", "write -P 9 1 1000", "read -P 9 1 1000", "read -v 0 16", "write 99k 10k",
              "read 0 98k"},
             "r");
  ExpectSameDisks("raw", "r");
  // Guessed: there is a warning, and the mark of another format cannot be written.
  ExpectSame({}, {"length", "write -P 0x51 4k 1k", "read 0 1k", "write -P 0x50 0 1k"}, "r");
  ExpectSame({"-r"}, {"length"}, "r");
}

TEST_F(IoTest, RefusesTheMarkOfAFormatInAGuessedFile) {
  WriteBytes(ours_.File("r"), std::string("QFI") + std::string(1021, '\0'));
  // The byte that is missing of qcow2's magic; its version is there.
  std::string bytes = ReadBytes(ours_.File("r"));
  bytes[7] = '\2';
  WriteBytes(ours_.File("r"), bytes);
  const Outcome outcome = Ringcow(ours_.path(), {"qemu-io", "-c", "write -P 0xfb 3 1", "r"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.out, "write failed: Operation not permitted\n");
  EXPECT_TRUE(ReadBytes(ours_.File("r")) == bytes);
  EXPECT_EQ(Ringcow(ours_.path(), {"qemu-io", "-f", "raw", "-c", "write -P 0xfb 3 1", "r"}).status,
            0);
}

TEST_F(IoTest, CopiesWhatItReads) {
  ExpectSame({"write -P 7 0 300k"});
  for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
    Qemu(directory->path(),
         {"qemu-img", "create", "-q", "-f", "qcow2", "-b", "a", "-F", "qcow2", "top"});
  }
  ExpectSame({"-f", "qcow2", "-C"}, {"read -P 7 100k 70k", "read -P 0 1M 1k"}, "top");
  ExpectSameDisks("qcow2", "top");
  const Words map = {"qemu-img", "map", "--output=json", "top"};
  EXPECT_EQ(Qemu(ours_.path(), map), Qemu(theirs_.path(), map));
  ExpectSame({"-f", "qcow2", "-C", "-r"}, {"read 0 1k"}, "top");
}

TEST_F(IoTest, RunsInTheBackground) {
  ExpectSame({"aio_write -P 3 0 64k", "aio_flush", "aio_read -P 3 0 64k", "aio_flush",
              "aio_read -P 4 0 64", "aio_flush", "aio_read -v -P 3 0 10 10"});
  ExpectSame({"aio_write -q 1M 64k", "aio_write -C 2M 64k", "aio_flush", "aio_read -q 0 1k"});
  ExpectSame({"aio_write 64M 64k", "aio_flush", "aio_read 64M 1k", "aio_flush", "aio_read 0",
              "aio_write -P"});
  ExpectSameDisks("qcow2", "a");
}

TEST_F(IoTest, WritesZeroesAndDiscards) {
  ExpectSame({"write -q -P 1 0 1M",
              "write -z 0 64k",
              "write -zu 64k 64k",
              "write -z -n 128k 64k",
              "write -zq 200k 1k",
              "write -zC 200k 1k",
              "write -z 63M 10M",
              "write -z 300k 100",
              "write -zf 0 4k",
              "write -zn 300k 10",
              "read -P 1 301k 1k",
              "read -P 0 0 64k",
              "aio_write -zqu 512k 64k",
              "aio_flush",
              "aio_write -zq 640k 1k",
              "aio_flush",
              "discard 768k 64k",
              "discard -q 0 64k",
              "discard -C 64k 64k",
              "discard 100 100",
              "discard 63M 10M",
              "d 65M 1k",
              "map",
              "alloc 0 1M",
              "alloc 0",
              "a 63M 10M"});
  ExpectSame({"write -z 0 3G", "write -z -n 0 3G", "write -z -P 1 0 1k", "write -u 0 1k",
              "write -n 0 1k", "aio_write -z 0 1k 1k", "aio_write -u 0 1k", "discard x 1",
              "discard 0 x", "discard 0", "discard 1 2 3", "discard -x 0 1", "discard 0 3G",
              "alloc x", "alloc 0 x", "alloc 1 2 3", "alloc 64k -1"});
  ExpectSameDisks("qcow2", "a");
  ExpectSame({"-f", "qcow2", "-d", "off"},
             {"write -q 0 128k", "discard 0 64k", "write -zu 64k 64k", "map"});
  ExpectSame({"-f", "qcow2", "-d", "nonsense"}, {"map"});
  ExpectSameDisks("qcow2", "a");
}

TEST_F(IoTest, WritesWhatAFileHolds) {
  for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
    WriteBytes(scratch->File("pattern"), "0123456789");
    WriteBytes(scratch->File("empty"), "");
  }
  ExpectSame({"write -s pattern 0 25", "read -v 0 32", "write -s pattern 100 5", "read -v 96 16",
              "write -s missing 0 1", "write -s empty 0 1", "write -s pattern -P 1 0 1k"});
  ExpectSameDisks("qcow2", "a");
}

TEST_F(IoTest, Truncates) {
  ExpectSame({"write -q -P 1 0 2M", "truncate 8M", "length", "truncate 1M", "length", "truncate x",
              "truncate -m full 2M", "read -P 0 1M 1M", "truncate -m bogus 3M",
              "truncate -m metadata 3M", "truncate", "truncate 1000", "length", "truncate -x 1",
              "truncate 100P", "t 4M"});
  ExpectSameDisks("qcow2", "a");
}

TEST_F(IoTest, OpensAndClosesImages) {
  ExpectSame({}, {"length", "open a", "length", "close", "length", "open a", "open a"}, "");
  ExpectSame({"close", "close", "open -r a", "write 0 1k", "close", "open -n a", "write 0 1k"});
  ExpectSame({"close", "open", "open -o driver=raw a", "length", "close", "open missing",
              "open -t bogus a", "open -d bogus a", "open -i bogus a", "open -U a",
              "open -d unmap -i threads -t none a", "length"});
  ExpectSame({"reopen -r", "write 0 1k", "reopen -w", "write 0 1k", "reopen", "write 0 1k",
              "reopen -r -w", "reopen -c none", "reopen -c bogus", "info", "info x"});
  ExpectSame({"-f", "qcow2", "-r"}, {"write 0 1k", "reopen -w", "write 0 1k", "reopen -r",
                                     "truncate 1k", "discard 0 1k", "flush"});
  ExpectSame({"aio_write -q 0 1M", "close", "open a", "read 0 1k", "sleep 1", "sleep x", "sleep"});
  ExpectSameDisks("qcow2", "a");
}

// Alone: where QEMU puts its temporary file nothing can be written in a sandbox.
TEST_F(IoTest, KeepsImagesThatAreOpenedForNow) {
  ExpectSame({"write -q -P 1 0 1M"});
  const std::string before = ReadBytes(ours_.File("a"));
  const Words writes = {"write -q -P 2 0 64k", "read -q -P 2 0 64k", "read -q -P 1 64k 64k"};
  EXPECT_EQ(Ringcow(ours_.path(), IoWords({"-f", "qcow2", "-s"}, writes, "a")), Outcome());
  EXPECT_EQ(Ringcow(ours_.path(), IoWords({},
                                          {"open -s a", "write -q -P 2 0 64k", "close", "open a",
                                           "read -q -P 1 0 1M"},
                                          "")),
            Outcome());
  EXPECT_TRUE(ReadBytes(ours_.File("a")) == before);
  ExpectSame({"-s"}, {"length"}, "missing");
}

TEST_F(IoTest, TellsACorruptionOnce) {
  // An L2 entry that names the L2 table itself.
  for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
    const Words words = {"qemu-io", "-f", "qcow2", "-c", "write -P 1 0 64k", "a"};
    ASSERT_EQ(Qemu(scratch->path(), words).status, 0);
    std::string bytes = ReadBytes(scratch->File("a"));
    bytes.replace(0x40000, 8, std::string("\x80\0\0\0\0\x04\0\0", 8));
    WriteBytes(scratch->File("a"), bytes);
  }
  ExpectSame({"write -P 2 0 64k"});
}

TEST_F(IoTest, DiesOnRequest) {
  const Words words = IoWords({"-f", "qcow2"}, {"write -P 7 0 64k", "flush", "sigraise 9"}, "a");
  EXPECT_EQ(WithoutTimes(Ringcow(ours_.path(), words)), WithoutTimes(Qemu(theirs_.path(), words)));
  ExpectSame({"read -P 7 0 64k", "sigraise", "sigraise x", "abort x"});
  EXPECT_EQ(Ringcow(ours_.path(), IoWords({"-f", "qcow2"}, {"abort"}, "a")).status, 128 + 6);
}

TEST_F(IoTest, TakesCommandsFromStdin) {
  for (const char* input :
       {"", "\n\n", "read 0 64k\nwrite -P 1 0 64k\nlength\n", "length", "quit\nread 0 1\n",
        "nonsense\nread -P 3 0 1k\n\nq\nread 0 1", "  length  \n", "read  0   1k\n"}) {
    const Words words = {"qemu-io", "-f", "qcow2", "a"};
    EXPECT_EQ(WithoutTimes(Ringcow(ours_.path(), words, input)),
              WithoutTimes(Qemu(theirs_.path(), words, input)))
        << input;
  }
  EXPECT_EQ(Ringcow(ours_.path(), {"qemu-io"}, "length"),
            Qemu(theirs_.path(), {"qemu-io"}, "length"));
}

TEST_F(IoTest, SaysTheSameAboutWrongCommands) {
  // What only names the options that there are, which differ.
  const auto without_synopsis = [](Outcome outcome) {
    const size_t begin = outcome.out.find(" [-");
    if (begin != std::string::npos) {
      outcome.out.erase(begin, outcome.out.find("off", begin) - begin);
    }
    return outcome;
  };
  for (const char* command : {"",
                              " ",
                              "nonsense",
                              "# comment",
                              "read",
                              "read 0",
                              "write 0",
                              "write 0 1x",
                              "write x 1",
                              "write -P 300 0 1k",
                              "write -P x 0 1k",
                              "read -P 0x1x 0 1",
                              "read -P -1 0 1",
                              "write -P",
                              "write -c -f 5M",
                              "write -c 0 511",
                              "write -c 1 512",
                              "writev -c 0 64k",
                              "write -y 0 1",
                              "write 0 -1",
                              "write -- -1 10",
                              "read -s 10 0 100",
                              "read -l 10 0 100",
                              "read -P 1 -l 1000 0 100",
                              "read -P 1 -s 1000 0 100",
                              "read -P 1 -s x 0 1",
                              "read -P 1 -l x 0 1",
                              "read -P 1 -s -5 0 1",
                              "read 0 3G",
                              "read 0 10E",
                              "read 0 9E",
                              "readv 0 3G",
                              "readv 0 1G 1G",
                              "read \"0\" 1k",
                              "read 0 10 10",
                              "write 0 10 10",
                              "read -s",
                              "length x",
                              "flush x",
                              "aio_flush x",
                              "help nonsense",
                              "help help",
                              "help length",
                              "help quit",
                              "help flush",
                              "help aio_flush",
                              "read 64M 1",
                              "write 64M 1",
                              "read 63M 2M",
                              "write 63M 2M",
                              "read 1T 1",
                              "read 8388607T 1",
                              "aio_read 0x 1",
                              "aio_write -P 777 0 1"}) {
    const Words words = IoWords({"-f", "qcow2"}, {command}, "a");
    EXPECT_EQ(WithoutTimes(without_synopsis(Ringcow(ours_.path(), words))),
              WithoutTimes(without_synopsis(Qemu(theirs_.path(), words))))
        << command;
  }
  // A failure does not stop what follows, but is remembered.
  ExpectSame({"read 64M 1", "read 0 1", "quit", "read 0 2"});
}

TEST_F(IoTest, SaysTheSameAboutWrongCommandLines) {
  for (const Words& options : std::vector<Words>{
           {"-t", "nonsense"}, {"-i", "nonsense"}, {"-f", "nonsense"}, {"-r", "-U"}}) {
    ExpectSame(options, {"length"});
  }
  ExpectSame({"-U"}, {"length"});
  ExpectSame({}, {"length"}, "missing");
  ExpectSame({}, {"length"}, "");
  ExpectSame({"-f", "qcow2", "-r"}, {"write 0 1", "read 0 1", "length", "aio_write 0 1"});
}

TEST_F(IoTest, TakesEveryCacheMode) {
  for (const char* mode : {"none", "off", "writeback", "writethrough", "directsync", "unsafe"}) {
    ExpectSame({"-f", "qcow2", "-t", mode},
               {"write -P 1 0 100k", "read -P 1 0 100k", "flush", "write -P 2 70000 70000",
                "read -P 1 0 70000", "aio_write -P 3 10M 10M", "aio_flush"});
    ExpectSameDisks("qcow2", "a");
  }
  ExpectSame({"-f", "qcow2", "-n", "--aio=threads"}, {"read -P 3 10M 10M"});
  // Registered memory. (QEMU's own aio_write -r trips an assertion.)
  ExpectSame({"-f", "qcow2"}, {"write -r -P 4 1k 100k", "read -r -P 4 1k 100k"});
  const Words in_background =
      IoWords({"-f", "qcow2"}, {"aio_write -r -P 5 2M 1M", "aio_flush", "read -P 5 2M 1M"}, "a");
  EXPECT_EQ(Ringcow(ours_.path(), in_background).status, 0);
}

TEST_F(IoTest, RefusesWhatItCannotDo) {
  const Outcome outcome = Ringcow(ours_.path(), IoWords({"-f", "qcow2"}, {"aio_read -i 0 1"}, "a"));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "aio_read: option '-i' is not supported yet\n");
}

}  // namespace
}  // namespace ringcow
