// `map` and `resize`, side by side with qemu-img.

#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

// Both work in one directory, on images that neither changes.
class MapTest : public testing::Test {
 protected:
  void Make(const std::string& options, const std::string& name, const std::string& size,
            const Words& commands, const Words& backing = {}) {
    Words create = {"qemu-img", "create", "-q", "-f", "qcow2", "-o", options};
    create.insert(create.end(), backing.begin(), backing.end());
    create.insert(create.end(), {name, size});
    ASSERT_EQ(Qemu(scratch_.path(), create).status, 0) << name;
    Words io = {"qemu-io", "-f", "qcow2"};
    for (const std::string& command : commands) io.insert(io.end(), {"-c", command});
    io.push_back(name);
    ASSERT_EQ(Qemu(scratch_.path(), io).status, 0) << name;
  }

  void ExpectSame(const Words& words) {
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_EQ(Ringcow(scratch_.path(), words), Qemu(scratch_.path(), words));
  }
  void ExpectSameMaps(const std::string& name, const Words& options = {}) {
    for (const char* output : {"--output=human", "--output=json"}) {
      Words words = {"qemu-img", "map", output};
      words.insert(words.end(), options.begin(), options.end());
      words.push_back(name);
      ExpectSame(words);
    }
  }

  const ScratchDirectory scratch_;
};

TEST_F(MapTest, ShowsEveryKindOfCluster) {
  for (const char* options : {"cluster_size=64k", "cluster_size=512", "cluster_size=2M",
                              "cluster_size=64k,extended_l2=on", "compat=0.10"}) {
    SCOPED_TRACE(options);
    Make(options, "a", "8M",
         {"write 0 128k", "write 100k 3", "write -z 1M 64k", "write -zu 1100k 300k", "write 4M 2M",
          "discard 5M 64k", "write 7M 100", "write -z 7340040 50"});
    ExpectSameMaps("a");
    ExpectSameMaps("a", {"--start-offset=70000", "--max-length=1000000"});
  }
}

// Where data goes is QEMU's choice, too: the parts of a write, whose L2 tables are new or are
// there, there, behind each other as far as there is room.
TEST_F(MapTest, DataGoesWhereQemuPutsIt) {
  const Words gaps = {"discard 40k 4k", "discard 64k 24k", "discard 200k 20k", "discard 300k 100k",
                      "discard 500k 3k"};
  for (const bool has_tables : {false, true}) {
    // Version 2: what is discarded leaves no zero cluster behind.
    Make("compat=0.10,cluster_size=512", "a", "8M", {});
    Words prepare = {"qemu-io", "-d", "unmap"};
    for (int table = 0; has_tables && table < 256; ++table) {
      const std::string place = std::to_string(32 * table) + "k 512";
      prepare.insert(prepare.end(), {"-c", "write " + place, "-c", "discard " + place});
    }
    prepare.insert(prepare.end(), {"-c", "write 0 1M"});
    for (const std::string& gap : gaps) prepare.insert(prepare.end(), {"-c", gap});
    prepare.emplace_back("a");
    ASSERT_EQ(Qemu(scratch_.path(), prepare).status, 0);
    std::filesystem::copy_file(scratch_.File("a"), scratch_.File("b"),
                               std::filesystem::copy_options::overwrite_existing);
    const Words writes = {"qemu-io",      "-c", "write 2M 96k", "-c",
                          "write 3M 33k", "-c", "write 4M 30k"};
    const auto with = [](Words words, const char* image) {
      words.emplace_back(image);
      return words;
    };
    EXPECT_EQ(Ringcow(scratch_.path(), with(writes, "a")).status, 0);
    EXPECT_EQ(Qemu(scratch_.path(), with(writes, "b")).status, 0);
    const Words map = {"qemu-img", "map", "--output=json"};
    EXPECT_EQ(Qemu(scratch_.path(), with(map, "a")), Qemu(scratch_.path(), with(map, "b")))
        << has_tables;
    EXPECT_EQ(Qemu(scratch_.path(), {"qemu-img", "check", "a"}).status, 0);
  }
}

// New clusters behind each other, and none of them in the gap that has room for one, for what was
// compressed, zero, a snapshot's and nothing so far.
TEST_F(MapTest, ClustersOfAllKindsAreReplacedAsOneRun) {
  Make("cluster_size=64k", "a", "4M",
       {"write 0 64k", "write -c 64k 64k", "write -c 128k 64k", "write -z 192k 64k",
        "write 320k 64k", "write 2M 64k", "write 3M 64k"});
  ASSERT_EQ(Qemu(scratch_.path(), {"qemu-img", "snapshot", "-c", "s", "a"}).status, 0);
  ASSERT_EQ(Qemu(scratch_.path(), {"qemu-io", "-c", "write 1M 64k", "-c", "write 1088k 64k", "-c",
                                   "discard 1M 64k", "a"})
                .status,
            0);
  std::filesystem::copy_file(scratch_.File("a"), scratch_.File("b"));
  Words write = {"qemu-io", "-c", "write -P 9 70k 300k", "a"};
  EXPECT_EQ(Ringcow(scratch_.path(), write).status, 0);
  write.back() = "b";
  EXPECT_EQ(Qemu(scratch_.path(), write).status, 0);
  EXPECT_EQ(Qemu(scratch_.path(), {"qemu-img", "map", "--output=json", "a"}),
            Qemu(scratch_.path(), {"qemu-img", "map", "--output=json", "b"}));
  EXPECT_EQ(Qemu(scratch_.path(), {"qemu-img", "compare", "a", "b"}).status, 0);
  EXPECT_EQ(Qemu(scratch_.path(), {"qemu-img", "check", "a"}).status, 0);
}

// One write for clusters that have their place, whatever they are, so that the second fault is
// none.
TEST_F(MapTest, NeighboursThatHaveTheirPlaceAreWrittenAsOne) {
  for (const char* options : {"cluster_size=64k", "cluster_size=64k,extended_l2=on"}) {
    SCOPED_TRACE(options);
    Make(options, "a", "4M", {"write -P 1 0 192k", "write -z 64k 64k", "write -P 2 1M 64k"});
    const Words map = {"qemu-img", "map", "--output=json", "-s", "1M", "a"};
    const Outcome before = Qemu(scratch_.path(), map);
    const std::string node = R"(json:{"driver": "qcow2", "file": {"driver": "blkdebug", "image":
        {"driver": "file", "filename": "a"}, "set-state": [{"event": "write_aio", "new_state": 2}],
        "inject-error": [{"event": "write_aio", "state": 2}]}})";
    const Outcome written =
        Ringcow(scratch_.path(), {"qemu-io", "-t", "writeback", "-c", "write -P 3 10k 180k", node});
    EXPECT_EQ(written.status, 0) << written;
    EXPECT_EQ(Qemu(scratch_.path(), map), before);
    const Outcome read =
        Qemu(scratch_.path(), {"qemu-io", "-c", "read -P 1 0 10k", "-c", "read -P 3 10k 180k", "-c",
                               "read -P 1 190k 2k", "-c", "read -P 2 1M 64k", "a"});
    EXPECT_EQ(read.status, 0) << read;
    EXPECT_EQ(read.out.find("failed"), std::string::npos) << read;
    EXPECT_EQ(Qemu(scratch_.path(), {"qemu-img", "check", "a"}).status, 0);
  }
}

// Of what is not allocated in a cluster that has its place, the rest comes from the backing file,
// also where zeroes follow.
TEST_F(MapTest, NeighboursTakeAlongWhatTheBackingFileHas) {
  ASSERT_EQ(Qemu(scratch_.path(), {"qemu-img", "create", "-q", "-f", "raw", "base", "1M"}).status,
            0);
  ASSERT_EQ(Qemu(scratch_.path(), {"qemu-io", "-f", "raw", "-c", "write -P 5 0 1M", "base"}).status,
            0);
  Make("extended_l2=on", "a", "1M", {"write -P 1 0 2k", "write -z 6k 2k"},
       {"-b", "base", "-F", "raw"});
  EXPECT_EQ(Ringcow(scratch_.path(), {"qemu-io", "-c", "write -P 9 5k 2k", "a"}).status, 0);
  const Outcome read = Qemu(
      scratch_.path(), {"qemu-io", "-c", "read -P 1 0 2k", "-c", "read -P 5 2k 3k", "-c",
                        "read -P 9 5k 2k", "-c", "read -P 0 7k 1k", "-c", "read -P 5 8k 16k", "a"});
  EXPECT_EQ(read.status, 0) << read;
  EXPECT_EQ(Qemu(scratch_.path(), {"qemu-img", "check", "a"}).status, 0);
}

// Those subclusters that begin before it, and no others, as a larger disk shows.
TEST_F(MapTest, ZeroesUpToTheEndOfTheDisk) {
  for (const char* name : {"a", "b"}) Make("extended_l2=on", name, "2083k", {});
  EXPECT_EQ(Ringcow(scratch_.path(), {"qemu-io", "-c", "write -z 2048k 35k", "a"}).status, 0);
  EXPECT_EQ(Qemu(scratch_.path(), {"qemu-io", "-c", "write -z 2048k 35k", "b"}).status, 0);
  for (const char* name : {"a", "b"}) {
    ASSERT_EQ(Qemu(scratch_.path(), {"qemu-img", "resize", "-q", name, "3M"}).status, 0);
  }
  EXPECT_EQ(Qemu(scratch_.path(), {"qemu-img", "map", "--output=json", "a"}),
            Qemu(scratch_.path(), {"qemu-img", "map", "--output=json", "b"}));
}

TEST_F(MapTest, NamesTheDataFile) {
  for (const char* options : {"data_file=d", "data_file=d,data_file_raw=on"}) {
    SCOPED_TRACE(options);
    Make(options, "a", "8M", {"write 0 128k", "write -z 1M 64k", "write 4M 2M", "discard 5M 64k"});
    ExpectSameMaps("a");
  }
}

TEST_F(MapTest, LooksThroughBackingFiles) {
  WriteBytes(scratch_.File("raw"), std::string(100'000, 'r'));
  Make("cluster_size=4k", "a", "4M", {"write 64k 64k", "write -z 1M 100k"},
       {"-b", "raw", "-F", "raw"});
  Make("cluster_size=64k", "b", "6M", {"write 0 64k", "write -z 1100k 300k", "write 5M 1"},
       {"-b", "a", "-F", "qcow2"});
  Make("cluster_size=64k", "c", "2M", {"discard 0 64k", "write 1M 64k"},
       {"-b", "b", "-F", "qcow2"});
  for (const char* name : {"a", "b", "c"}) ExpectSameMaps(name);
  ExpectSameMaps("b", {"--start-offset=3M"});
}

TEST_F(MapTest, KnowsTheHolesOfRawFiles) {
  WriteBytes(scratch_.File("a"), std::string(100'000, 'r'));
  ASSERT_EQ(Qemu(scratch_.path(), {"qemu-img", "resize", "-q", "-f", "raw", "a", "1000000"}).status,
            0);
  ASSERT_EQ(Qemu(scratch_.path(), {"qemu-io", "-f", "raw", "-c", "write 800k 10k", "a"}).status, 0);
  ExpectSameMaps("a", {"-f", "raw"});
  ExpectSameMaps("a");
}

TEST_F(MapTest, KnowsTheHolesOfPreallocatedClusters) {
  for (const char* options : {"preallocation=metadata", "preallocation=metadata,cluster_size=4k",
                              "preallocation=falloc", "preallocation=metadata,extended_l2=on"}) {
    SCOPED_TRACE(options);
    Make(options, "a", "16M", {"write 1M 100k", "write -z 3M 1M", "write 9000k 4k"});
    ExpectSameMaps("a");
    Make("cluster_size=64k", "b", "16M", {"write 0 1k"}, {"-b", "a", "-F", "qcow2"});
    ExpectSameMaps("b");
  }
}

// What was stored there is lost: that it was is known, but nobody reads zeroes instead.
TEST_F(MapTest, KnowsWhatIsBehindTheEndOfTheFile) {
  for (const char* options : {"cluster_size=64k", "cluster_size=4k", "extended_l2=on"}) {
    SCOPED_TRACE(options);
    Make(options, "a", "4M", {"write 0 256k", "write 1M 64k", "write 2M 100k"});
    std::filesystem::resize_file(scratch_.File("a"), 384 << 10);
    ExpectSameMaps("a");
    ExpectSame({"qemu-io", "-r", "-f", "qcow2", "-c", "map", "-c", "alloc 1M 64k", "a"});
    EXPECT_EQ(Ringcow(scratch_.path(), {"qemu-img", "convert", "-O", "raw", "a", "raw"}).status, 1);
    EXPECT_EQ(Ringcow(scratch_.path(), {"qemu-io", "-c", "write 2144k 4k", "a"}).status, 1);
  }
}

TEST_F(MapTest, ComplainsInTheSameWords) {
  Make("cluster_size=64k", "a", "1M", {"write 0 64k"});
  WriteBytes(scratch_.File("empty"), "");
  ExpectSameMaps("empty");
  ExpectSameMaps("a", {"--start-offset=10M"});
  for (const Words& options : std::vector<Words>{{"--start-offset=x", "a"},
                                                 {"--start-offset=-1", "a"},
                                                 {"--max-length=1X", "a"},
                                                 {"--output=xml", "a"},
                                                 {"-f", "bogus", "a"},
                                                 {"nowhere"},
                                                 {"a", "b"},
                                                 {}}) {
    Words words = {"qemu-img", "map"};
    words.insert(words.end(), options.begin(), options.end());
    ExpectSame(words);
  }
}

TEST_F(MapTest, RefusesCompressedClustersForPeople) {
  Make("cluster_size=64k", "a", "1M", {"write 0 64k", "write -c 64k 64k"});
  const Outcome outcome = Ringcow(scratch_.path(), {"qemu-img", "map", "a"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.err, "qemu-img: File contains external, encrypted or compressed clusters.\n");
  ExpectSame({"qemu-img", "map", "--output=json", "a"});
}

}  // namespace
}  // namespace ringcow
