// Tests the output of `explain` on constructed portraits.
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "collectors/explain/portrait.h"
#include "exporter/explain/json.h"
#include "exporter/explain/terminal.h"
#include "exporter/explain/words.h"

namespace cow::exporter {
namespace {

using explain::MappingPortrait;
using explain::MemberPortrait;
using explain::PageState;
using explain::Portrait;

constexpr uint64_t kMiB = 256;  // in pages

MemberPortrait Member(pid_t pid, pid_t parent, std::string name) {
  MemberPortrait member;
  member.pid = pid;
  member.parent = parent;
  member.name = std::move(name);
  return member;
}

MappingPortrait HeapMapping() {
  MappingPortrait heap;
  heap.mapping.vma = {0x55aa00000000, 0x55aa20000000, true, true, false, false, 0, 0, 0, 0, "[heap]"};
  heap.mapping.kind = memory::MappingKind::kHeap;
  heap.sums.Add(PageState::kShared, 300 * kMiB);
  heap.sums.Add(PageState::kCopied, 100 * kMiB);
  heap.sums.Add(PageState::kOriginal, 12 * kMiB);
  heap.sums.Add(PageState::kPrivate, 8 * kMiB);
  heap.exposure_pages = 300 * kMiB;
  return heap;
}

// A parent and its child: 300 MiB shared, 112 MiB broken.
Portrait Pair() {
  Portrait portrait;
  portrait.pid = 100;
  portrait.page_bytes = 4096;
  MemberPortrait parent = Member(100, 0, "redis-server");
  parent.sums = HeapMapping().sums;
  parent.sums.huge = 2 * kMiB;
  parent.broken_pages = 100 * kMiB;
  MemberPortrait child = Member(101, 100, "redis-rdb-bgsave");
  child.sums.Add(PageState::kShared, 300 * kMiB);
  child.sums.Add(PageState::kCopied, 12 * kMiB);
  child.sums.Add(PageState::kOriginal, 100 * kMiB);
  child.sums.Add(PageState::kZero, 3);
  child.broken_pages = 12 * kMiB;
  portrait.members = {parent, child};
  portrait.mappings.push_back(HeapMapping());
  portrait.exposure_pages = 300 * kMiB;
  portrait.broken_by_kind = {110 * kMiB, 0, 2 * kMiB, 0, 0};
  return portrait;
}

Portrait Single() {
  Portrait portrait;
  portrait.pid = 7;
  portrait.page_bytes = 4096;
  portrait.members = {Member(7, 0, "one")};
  return portrait;
}

Portrait WithRuns() {
  Portrait portrait = Pair();
  portrait.has_pages = true;
  portrait.mappings[0].runs = {{0x55aa00000000, 512, PageState::kShared, true, {101, 102}},
                               {0x55aa00200000, 3, PageState::kCopied, false, {}},
                               {0x55aa00203000, 512, PageState::kPrivate, true, {}},
                               {0x55aa00403000, 130045, PageState::kAbsent, false, {}}};
  return portrait;
}

std::string At(size_t width) { return RenderPortrait(Pair(), {width, false, false}); }

TEST(ExplainTerminal, Width40) {
  EXPECT_EQ(At(40), R"(300 MiB would be copied if the child
wrote all it shares. 112 MiB was copied
already (27 % of what was shared at fork
and is still mapped), about 9 in 10 by
the parent, mostly in the heap.

PROCESS
100 redis-server
    resident 420 MiB, shared 300 MiB,
    copied 100 MiB, original 12 MiB,
    private 8 MiB, huge 2 MiB
`-101 redis-rdb-bgsave
    resident 412 MiB, shared 300 MiB,
    copied 12 MiB, original 100 MiB,
    zero 12 KiB

MAPPINGS OF 100
55aa00000000-55aa20000000 rw-p [heap]
    ##########################xxxxxxxxo'
    resident 420 MiB, shared 300 MiB,
    copied 100 MiB, original 12 MiB,
    private 8 MiB

# shared: another process maps the page
  since a fork; a write copies it
x copied: this process wrote to a shared
  page or to a file's page
o original: the page that others copied,
  or still the file's own
. private: its own, neither copied nor
  original
' less than one cell of a bar
Mappings with the most memory that was
or can be copied come first.
)");
}

TEST(ExplainTerminal, Width80) {
  EXPECT_EQ(At(80), R"(300 MiB would be copied if the child wrote all it shares. 112 MiB was copied
already (27 % of what was shared at fork and is still mapped), about 9 in 10 by
the parent, mostly in the heap.

PROCESS           RESIDENT   SHARED   COPIED ORIGINAL  PRIVATE     ZERO     HUGE
100 redis-server   420 MiB  300 MiB  100 MiB   12 MiB    8 MiB        0    2 MiB
`-101 redis-rdb~   412 MiB  300 MiB   12 MiB  100 MiB        0   12 KiB        0

MAPPINGS OF 100   RESIDENT   SHARED   COPIED ORIGINAL  PRIVATE     ZERO     HUGE
55aa00000000-55aa20000000 rw-p [heap]
  #########xxx''   420 MiB  300 MiB  100 MiB   12 MiB    8 MiB        0        0

# shared: another process maps the page since a fork; a write copies it
x copied: this process wrote to a shared page or to a file's page
o original: the page that others copied, or still the file's own
. private: its own, neither copied nor original
' less than one cell of a bar
Mappings with the most memory that was or can be copied come first.
)");
}

TEST(ExplainTerminal, Width120InUtf8) {
  EXPECT_EQ(
      RenderPortrait(Pair(), {120, false, true}),
      R"(300 MiB would be copied if the child wrote all it shares. 112 MiB was copied already (27 % of what was shared at fork
and is still mapped), about 9 in 10 by the parent, mostly in the heap.

PROCESS                                          RESIDENT   SHARED   COPIED ORIGINAL  PRIVATE     ZERO     HUGE
100 redis-server                                  420 MiB  300 MiB  100 MiB   12 MiB    8 MiB        0    2 MiB
└ 101 redis-rdb-bgsave                            412 MiB  300 MiB   12 MiB  100 MiB        0   12 KiB        0

MAPPINGS OF 100                                  RESIDENT   SHARED   COPIED ORIGINAL  PRIVATE     ZERO     HUGE
55aa00000000-55aa20000000 rw-p [heap]
  █████████████████████████████████▓▓▓▓▓▓▓▓▓▓▒▏   420 MiB  300 MiB  100 MiB   12 MiB    8 MiB        0        0

█ shared: another process maps the page since a fork; a write copies it
▓ copied: this process wrote to a shared page or to a file's page
▒ original: the page that others copied, or still the file's own
░ private: its own, neither copied nor original
▏ less than one cell of a bar
Mappings with the most memory that was or can be copied come first.
)");
}

TEST(ExplainTerminal, Pages) {
  EXPECT_EQ(RenderPortrait(WithRuns(), {80, false, false}),
            R"(300 MiB would be copied if the child wrote all it shares. 112 MiB was copied
already (27 % of what was shared at fork and is still mapped), about 9 in 10 by
the parent, mostly in the heap.

PROCESS           RESIDENT   SHARED   COPIED ORIGINAL  PRIVATE     ZERO     HUGE
100 redis-server   420 MiB  300 MiB  100 MiB   12 MiB    8 MiB        0    2 MiB
`-101 redis-rdb~   412 MiB  300 MiB   12 MiB  100 MiB        0   12 KiB        0

55aa00000000-55aa20000000 rw-p [heap]
  55aa00000000       512     2 MiB  shared (huge) with 101, 102
  55aa00200000         3    12 KiB  copied
  55aa00203000       512     2 MiB  huge
  55aa00403000    130045   508 MiB  absent

SUM
  1 run              512     2 MiB  shared
  1 run              512     2 MiB  huge
  1 run                3    12 KiB  copied

)");
}

// Returns the lines of the table of mappings that name a mapping.
std::vector<std::string> MappingLines(const Portrait& portrait) {
  std::istringstream lines(RenderPortrait(portrait, {80, false, false}));
  std::vector<std::string> found;
  for (std::string line; std::getline(lines, line);) {
    if (line.find(" rw-p ") != std::string::npos || line.find(" r--p ") != std::string::npos) found.push_back(line);
  }
  return found;
}

MappingPortrait MappingOf(uint64_t start, std::string path, bool writable) {
  MappingPortrait mapping;
  mapping.mapping.vma = {start, start + 0x10000000, true, writable, false, false, 0, 0, 0, 0, std::move(path)};
  mapping.mapping.kind = memory::MappingKind::kFile;
  return mapping;
}

TEST(ExplainTerminal, MappingsWithTheMostLostAndToLoseComeFirst) {
  Portrait portrait = Pair();
  MappingPortrait broken = MappingOf(0x7f0000000000, "/broken", true);  // all of it is lost
  broken.sums.Add(PageState::kCopied, 400 * kMiB);
  broken.sums.Add(PageState::kUnattributed, 200 * kMiB);
  MappingPortrait snapshot = MappingOf(0x7f1000000000, "/snapshot", true);
  snapshot.sums.Add(PageState::kFileOriginal, 500 * kMiB);
  MappingPortrait code = MappingOf(0x7f2000000000, "/code", false);  // can't be lost
  code.sums.Add(PageState::kFileOriginal, 900 * kMiB);
  MappingPortrait own = MappingOf(0x7f3000000000, "/own", true);
  own.sums.Add(PageState::kPrivate, 900 * kMiB);
  portrait.mappings.insert(portrait.mappings.end(), {snapshot, broken, code, own});
  const std::vector<std::string> lines = MappingLines(portrait);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_NE(lines[0].find("/broken"), std::string::npos);
  EXPECT_NE(lines[1].find("/snapshot"), std::string::npos);
  EXPECT_NE(lines[2].find("[heap]"), std::string::npos);
  EXPECT_NE(lines[3].find("/own"), std::string::npos);
  portrait.members.pop_back();  // without relatives, size decides
  EXPECT_NE(MappingLines(portrait).at(0).find("/own"), std::string::npos);
}

TEST(ExplainTerminal, PrivateFilePagesAreCopiedOrOriginal) {
  Portrait portrait = Pair();
  MappingPortrait file = MappingOf(0x7f0000000000, "/file", true);
  file.sums.Add(PageState::kFileCopied, kMiB);
  file.sums.Add(PageState::kFileOriginal, 3 * kMiB);
  portrait.mappings = {file};
  EXPECT_NE(RenderPortrait(portrait, {80, false, false})
                .find("  xxxooooooooooo     4 MiB        0    1 MiB    3 MiB        0        0        0\n"),
            std::string::npos);
  const auto json = nlohmann::json::parse(PortraitJson(portrait, false))["mappings"][0];
  EXPECT_EQ(json["copied_bytes"], 1U << 20U);
  EXPECT_EQ(json["original_bytes"], 3U << 20U);
  EXPECT_EQ(json["file_copied_bytes"], 1U << 20U);
  EXPECT_EQ(json["private_bytes"], 0);
  EXPECT_EQ(json["resident_bytes"], 4U << 20U);
}

TEST(ExplainTerminal, AShareBelowOneCellIsAThinMark) {
  Portrait portrait = Pair();
  MappingPortrait& heap = portrait.mappings[0];
  heap.sums = {};
  heap.sums.Add(PageState::kShared, 1000 * kMiB);
  heap.sums.Add(PageState::kCopied, 1);
  EXPECT_NE(At(80).find("' less than one cell"), std::string::npos);
  EXPECT_NE(RenderPortrait(portrait, {80, false, false}).find("  #############'  "), std::string::npos);
  EXPECT_NE(RenderPortrait(portrait, {80, false, true}).find("  █████████████▏  "), std::string::npos);
  heap.sums.pages = {};
  heap.sums.Add(PageState::kShared, 1000 * kMiB);
  const std::string whole = RenderPortrait(portrait, {80, false, false});
  EXPECT_NE(whole.find("  ##############  "), std::string::npos);
  EXPECT_EQ(whole.find("less than one cell"), std::string::npos);
}

TEST(ExplainTerminal, StatesWithoutAColumnAreListed) {
  Portrait portrait = Pair();
  EXPECT_EQ(AlsoHas(portrait), "");
  portrait.members[0].sums.Add(PageState::kSwapped, 3 * kMiB);
  portrait.members[0].sums.Add(PageState::kUnshared, kMiB);
  EXPECT_EQ(AlsoHas(portrait), "Process 100 also has: swapped 3 MiB. Of its private memory: unshared 1 MiB.");
  EXPECT_NE(RenderPortrait(portrait, {80, false, false}).find("also has: swapped 3 MiB"), std::string::npos);
}

TEST(ExplainTerminal, NoLineIsWiderThanTheTerminal) {
  for (size_t width = 40; width < 200; ++width) {
    std::istringstream lines(At(width));
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), width) << line;
  }
}

TEST(ExplainTerminal, ManyPartnersAreWrapped) {
  Portrait portrait = WithRuns();
  for (pid_t pid = 1000; pid < 1030; ++pid) portrait.mappings[0].runs[0].shared_with.push_back(pid);
  std::istringstream lines(RenderPortrait(portrait, {70, false, false}));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 70U) << line;
}

TEST(ExplainTerminal, ColourOnlyOnRequest) {
  EXPECT_EQ(At(80).find('\x1b'), std::string::npos);
  EXPECT_NE(RenderPortrait(Pair(), {80, true, false}).find("\x1b[32m"), std::string::npos);
}

TEST(ExplainTerminal, NamesCanNotControlTheTerminal) {
  Portrait portrait = Pair();
  portrait.members[0].name = "a\x1b[2Jb\n";
  portrait.mappings[0].mapping.vma.path = "/x\x07";
  const std::string text = RenderPortrait(portrait, {120, false, false});
  EXPECT_NE(text.find("a?[2Jb?"), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\x07'), std::string::npos);
}

TEST(ExplainWords, Sizes) {
  EXPECT_EQ(HumanBytes(0), "0");
  EXPECT_EQ(HumanBytes(1), "1 B");
  EXPECT_EQ(HumanBytes(4096), "4 KiB");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(1048575), "1 MiB");
  EXPECT_EQ(HumanBytes(uint64_t{412} << 20U), "412 MiB");
  EXPECT_EQ(HumanBytes(uint64_t{10} << 40U), "10 TiB");
}

TEST(ExplainWords, ParentAndChild) {
  EXPECT_EQ(Summary(Pair()),
            "300 MiB would be copied if the child wrote all it shares. 112 MiB was copied already (27 % of what was "
            "shared at fork and is still mapped), about 9 in 10 by the parent, mostly in the heap.");
}

TEST(ExplainWords, TwoChildrenAndMany) {
  Portrait portrait = Pair();
  portrait.members.push_back(Member(102, 100, "w"));
  EXPECT_EQ(Summary(portrait).substr(0, 67), "300 MiB would be copied if both children wrote all they share. 112 ");
  portrait.members.push_back(Member(103, 100, "w"));
  EXPECT_EQ(Summary(portrait).substr(0, 68), "300 MiB would be copied if all 3 children wrote all they share. 112 ");
  portrait.members[2].parent = 101;
  EXPECT_EQ(Summary(portrait).substr(0, 64), "300 MiB would be copied if all others wrote all they share. 112 ");
}

TEST(ExplainWords, NothingShared) {
  Portrait portrait = Pair();
  portrait.exposure_pages = 0;
  EXPECT_EQ(Summary(portrait),
            "These 2 processes share nothing. 112 MiB was copied already (all of what was shared at fork and is still "
            "mapped), about 9 in 10 by the parent, mostly in the heap.");
  for (MemberPortrait& member : portrait.members) member.broken_pages = 0;
  EXPECT_EQ(Summary(portrait), "These 2 processes share nothing.");
}

TEST(ExplainWords, NothingBroken) {
  Portrait portrait = Pair();
  for (MemberPortrait& member : portrait.members) member.broken_pages = 0;
  EXPECT_EQ(Summary(portrait),
            "300 MiB would be copied if the child wrote all it shares. Nothing of what was shared at fork is known to "
            "be copied.");
  portrait.marks_known = false;
  portrait.unattributed_pages = kMiB;
  EXPECT_EQ(Summary(portrait),
            "300 MiB would be copied if the child wrote all it shares. 1 MiB differs between them: copied, or never "
            "shared.");
  EXPECT_EQ(Limits(portrait).size(), 1U);
}

TEST(ExplainWords, OneSideOnly) {
  Portrait portrait = Pair();
  portrait.members[0].broken_pages = 0;
  portrait.broken_by_kind = {0, 0, 12 * kMiB, 0, 0};
  EXPECT_EQ(Summary(portrait),
            "300 MiB would be copied if the child wrote all it shares. 12 MiB was copied already (4 % of what was "
            "shared at fork and is still mapped), all by the child, all in anonymous mappings.");
  portrait.members[0].broken_pages = 12 * kMiB;
  portrait.broken_by_kind = {12 * kMiB, 0, 12 * kMiB, 0, 0};
  EXPECT_NE(Summary(portrait).find("mapped), half by the parent."), std::string::npos);
}

TEST(ExplainWords, SomeCouldNotBeRead) {
  Portrait portrait = Pair();
  portrait.members.push_back(Member(102, 100, "w"));
  portrait.members.back().unread = true;
  portrait.members.back().unread_reason = "denied";
  EXPECT_EQ(Summary(portrait).substr(0, 16), "At least 300 MiB");
  ASSERT_EQ(Limits(portrait).size(), 1U);
  EXPECT_EQ(Limits(portrait)[0], "Process 102 could not be read: denied.");
  portrait.members.back().unread_detail = "/proc/102/maps: it runs as user 0";
  EXPECT_EQ(Limits(portrait)[0], "Process 102 could not be read: /proc/102/maps: it runs as user 0.");
}

TEST(ExplainWords, SwapHidesEarlierCopies) {
  Portrait portrait = Pair();
  portrait.swap_hides_copies = true;
  EXPECT_TRUE(Limits(portrait).empty());
  portrait.unattributed_pages = 1;
  ASSERT_EQ(Limits(portrait).size(), 1U);
  EXPECT_NE(Limits(portrait)[0].find("back from swap"), std::string::npos);
}

TEST(ExplainWords, Times) {
  EXPECT_EQ(TimeText({}), "1970-01-01T00:00:00Z");
  EXPECT_EQ(TimeText(std::chrono::system_clock::from_time_t(1796144700)), "2026-12-01T17:05:00Z");
}

TEST(ExplainWords, ProcessWithTheMemoryOfAnother) {
  Portrait portrait = Pair();
  portrait.asked = portrait.pid;
  EXPECT_TRUE(Limits(portrait).empty());
  portrait.asked = 105;
  ASSERT_EQ(Limits(portrait).size(), 1U);
  EXPECT_EQ(Limits(portrait)[0], "Process 105 has the same memory as 100 (vfork or CLONE_VM), which stands for both.");
}

TEST(ExplainWords, OneProcess) {
  Portrait portrait = Single();
  EXPECT_EQ(Summary(portrait), "No other process shares its anonymous memory.");
  portrait.members[0].sums.Add(PageState::kUnshared, kMiB);
  EXPECT_EQ(Summary(portrait), "No other process shares its anonymous memory; 1 MiB of it was once shared by fork.");
  portrait.unseen_pages = 2 * kMiB;
  EXPECT_EQ(Summary(portrait), "2 MiB is shared with processes that can't be seen from here.");
}

TEST(ExplainWords, WithoutFrames) {
  Portrait portrait = Single();
  portrait.frames_known = false;
  EXPECT_EQ(Summary(portrait), "No other process maps the anonymous memory of process 7, as the kernel counts.");
  portrait.members[0].sums.Add(PageState::kShared, kMiB);
  EXPECT_EQ(Summary(portrait),
            "1 MiB of process 7 is mapped by another process too, as the kernel counts: a write there copies.");
  EXPECT_EQ(Limits(portrait).size(), 1U);
  portrait.zero_known = false;
  portrait.members[0].sums.Add(PageState::kUnknown, kMiB);
  EXPECT_EQ(Summary(portrait), "1 MiB of process 7 is shared by fork, or the zero page.");
  EXPECT_EQ(Limits(portrait).size(), 2U);
}

TEST(ExplainWords, SinceTheLastLook) {
  Portrait portrait = Pair();
  EXPECT_EQ(SinceLastLook(portrait), "");
  portrait.since_last_look = explain::Breaks{};
  EXPECT_EQ(SinceLastLook(portrait), "Since the last look nothing was copied.");
  portrait.since_last_look = explain::Breaks{3 * kMiB, kMiB};
  portrait.members[1].broken_since_last_look = 2 * kMiB;
  EXPECT_EQ(SinceLastLook(portrait), "Since the last look 3 MiB was copied: 2 MiB by 101, 1 MiB by an unknown side.");
}

TEST(ExplainJson, HasTheDocumentedForm) {
  const auto json = nlohmann::json::parse(PortraitJson(WithRuns(), false));
  EXPECT_EQ(json["pid"], 100);
  ASSERT_EQ(json["family"].size(), 2U);
  EXPECT_EQ(json["family"][0]["parent"], nullptr);
  EXPECT_EQ(json["family"][1]["pid"], 101);
  EXPECT_EQ(json["family"][1]["parent"], 100);
  EXPECT_EQ(json["family"][1]["shared_bytes"], 300U << 20U);
  EXPECT_EQ(json["family"][0]["private_bytes"], 8U << 20U);
  EXPECT_EQ(json["family"][1]["private_bytes"], 0);
  EXPECT_EQ(json["family"][1]["copied_bytes"], 12U << 20U);
  EXPECT_EQ(json["family"][1]["original_bytes"], 100U << 20U);
  EXPECT_EQ(json["family"][1]["zero_bytes"], 3 * 4096);
  const auto& mapping = json["mappings"][0];
  EXPECT_EQ(mapping["start"], "0x55aa00000000");
  EXPECT_EQ(mapping["end"], "0x55aa20000000");
  EXPECT_EQ(mapping["permissions"], "rw-p");
  EXPECT_EQ(mapping["path"], "[heap]");
  EXPECT_EQ(mapping["kind"], "heap");
  ASSERT_EQ(mapping["runs"].size(), 4U);
  EXPECT_EQ(mapping["runs"][0]["state"], "shared");
  EXPECT_EQ(mapping["runs"][0]["shared_with"], nlohmann::json({101, 102}));
  EXPECT_EQ(mapping["runs"][1]["start"], "0x55aa00200000");
  EXPECT_EQ(mapping["runs"][1]["pages"], 3);
  EXPECT_EQ(mapping["runs"][1]["state"], "copied");
  EXPECT_EQ(mapping["runs"][2]["state"], "huge");
  EXPECT_EQ(mapping["runs"][3]["state"], "absent");
}

TEST(ExplainJson, PartsAddUpToResident) {
  explain::PageSums sums;
  for (size_t state = 0; state < explain::kPageStates; ++state) sums.Add(static_cast<PageState>(state), state + 1);
  Portrait portrait = Single();
  portrait.members[0].sums = sums;
  const auto member = nlohmann::json::parse(PortraitJson(portrait, false))["family"][0];
  uint64_t all = 0;
  for (const char* part : {"shared", "copied", "original", "private", "unknown", "zero", "merged", "file"}) {
    all += member[std::string(part) + "_bytes"].get<uint64_t>();
  }
  EXPECT_EQ(member["resident_bytes"], all);
  EXPECT_GT(member["private_bytes"], member["unshared_bytes"]);
}

TEST(ExplainJson, UnknownValuesAreNull) {
  Portrait portrait = Pair();
  portrait.frames_known = false;
  portrait.members[0].name = "\xff";
  const auto json = nlohmann::json::parse(PortraitJson(portrait, true));
  EXPECT_TRUE(json["exposure_bytes"].is_null());
  EXPECT_TRUE(json["broken_bytes"].is_null());
  EXPECT_TRUE(json["mappings"][0]["exposure_bytes"].is_null());
  EXPECT_FALSE(json["mappings"][0].contains("runs"));
  EXPECT_EQ(json["limits"].size(), 1U);
}

}  // namespace
}  // namespace cow::exporter
