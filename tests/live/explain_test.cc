// `explain` on a program with known pages: checks each page per member, per mapping and one by one.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "collectors/explain/explainer.h"
#include "tests/live/explained.h"
#include "tests/live/live.h"
#include "tests/support/privileges.h"
#include "tests/support/workload.h"

namespace cow::live {
namespace {

using explain::Failure;
using explain::MappingPortrait;
using explain::PageState;
using explain::Portrait;

constexpr int kRoot = testing::Workload::kRoot;
constexpr size_t kPages = 600;

class ExplainTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = test::WhyNoPageFrames(); !why.empty()) GTEST_SKIP() << why;
  }

  void Do(const std::string& command) { workload_.Do(command); }
  void Write(int id, const std::string& name, size_t first, size_t pages) {
    Do("write " + std::to_string(id) + " " + name + " " + std::to_string(first) + " " + std::to_string(pages));
  }
  // Maps memory of the root and writes to it.
  uintptr_t MapWritten(const std::string& name, size_t pages, std::string_view kind = "nohuge") {
    const uintptr_t address = workload_.Map(kRoot, name, pages, kind);
    Write(kRoot, name, 0, pages);
    return address;
  }
  int Fork(int id = kRoot) { return workload_.Fork(id).id; }
  pid_t Pid(int id) { return workload_.Pid(id); }
  std::string With(const std::vector<int>& ids) {
    std::vector<pid_t> pids;
    pids.reserve(ids.size());
    for (const int id : ids) pids.push_back(Pid(id));
    std::sort(pids.begin(), pids.end());
    std::string text;
    for (const pid_t pid : pids) text.append(text.empty() ? "" : ",").append(std::to_string(pid));
    return "shared(" + text + ") ";
  }
  Portrait Look(int id) { return Explained(explainer_, Pid(id)); }
  std::string Runs(int id, const std::string& name, size_t pages) {
    return RunsAt(Look(id), workload_.Address(id, name), pages);
  }
  static const MappingPortrait& MappingAt(const Portrait& portrait, uint64_t address) {
    const auto found = std::find_if(portrait.mappings.begin(), portrait.mappings.end(), [address](const auto& mapping) {
      return mapping.mapping.vma.start <= address && address < mapping.mapping.vma.end;
    });
    if (found == portrait.mappings.end()) throw std::out_of_range("no such mapping");
    return *found;
  }
  Failure FailureOf(pid_t pid) {
    const auto portrait = explainer_.Look(pid, {});
    return portrait ? Failure{} : portrait.error();
  }

  testing::Workload workload_;
  explain::Explainer explainer_{procfs::Root()};
};

TEST_F(ExplainTest, WrittenPagesAreCopiedThereAndOriginalHere) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  const uintptr_t address = MapWritten("a", kPages);
  const int child = Fork();
  Write(child, "a", 0, 100);
  Write(kRoot, "a", 200, 50);

  EXPECT_EQ(Runs(child, "a", kPages), "copied 100, " + With({kRoot}) + "100, original 50, " + With({kRoot}) + "350");
  EXPECT_EQ(Runs(kRoot, "a", kPages), "original 100, " + With({child}) + "100, copied 50, " + With({child}) + "350");

  const Portrait portrait = Look(child);
  const MappingPortrait& mapping = MappingAt(portrait, address);
  EXPECT_EQ(mapping.sums.Of(PageState::kCopied), 100U);
  EXPECT_EQ(mapping.sums.Of(PageState::kOriginal), 50U);
  EXPECT_EQ(mapping.sums.Of(PageState::kShared), 450U);
  EXPECT_EQ(mapping.sums.Private(), 0U) << "copied and original pages are not private";
  EXPECT_EQ(mapping.exposure_pages, 450U);
  EXPECT_EQ(portrait.broken_by_kind[static_cast<size_t>(memory::MappingKind::kAnon)] / 150, 1U);
  ASSERT_EQ(portrait.members.size(), 2U);
  EXPECT_EQ(portrait.members[0].pid, Pid(kRoot));
  EXPECT_EQ(portrait.members[1].parent, Pid(kRoot));
  EXPECT_GE(portrait.members[0].broken_pages, 50U);
  EXPECT_GE(portrait.members[1].broken_pages, 100U);
}

// The root becomes the subreaper, so it adopts the child of a process that ends.
TEST_F(ExplainTest, ParentCopiedNothingThatItsWorkersPassedOn) {
  Do("subreaper");
  MapWritten("a", kPages);
  const int worker = Fork();
  Write(worker, "a", 0, 500);
  workload_.ForkDouble(worker);
  EXPECT_EQ(Runs(kRoot, "a", kPages).find("copied"), std::string::npos);
  EXPECT_LE(Look(kRoot).members.at(0).broken_pages, 60U);
}

TEST_F(ExplainTest, SharedPagesNameThePartners) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  MapWritten("a", kPages);
  const int one = Fork();
  const int two = Fork();
  Write(one, "a", 0, 100);
  Write(kRoot, "a", 200, 50);
  EXPECT_EQ(Runs(kRoot, "a", kPages),
            With({two}) + "100, " + With({one, two}) + "100, copied 50, " + With({one, two}) + "350");
  // The parent has forked again: its page may be younger than this member.
  EXPECT_EQ(Runs(one, "a", kPages),
            "unattributed 100, " + With({kRoot, two}) + "100, " + With({two}) + "50, " + With({kRoot, two}) + "350");
  EXPECT_EQ(Runs(two, "a", kPages),
            With({kRoot}) + "100, " + With({kRoot, one}) + "100, " + With({one}) + "50, " + With({kRoot, one}) + "350");
}

TEST_F(ExplainTest, PagesThatBothWroteAreNotGuessedAt) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  MapWritten("a", kPages);
  const int child = Fork();
  Write(child, "a", 0, 100);
  Write(kRoot, "a", 50, 100);
  EXPECT_EQ(Runs(child, "a", 200), "copied 50, unattributed 50, original 50, " + With({kRoot}) + "50");
  EXPECT_EQ(Runs(kRoot, "a", 200), "original 50, unattributed 50, copied 50, " + With({child}) + "50");
}

TEST_F(ExplainTest, FreshPagesArePrivate) {
  workload_.Map(kRoot, "a", kPages, "nohuge");
  Write(kRoot, "a", 0, 10);
  const int child = Fork();
  Write(kRoot, "a", 100, 20);
  Write(child, "a", 300, 30);
  EXPECT_EQ(Runs(kRoot, "a", kPages), With({child}) + "10, absent 90, private 20, absent 480");
  EXPECT_EQ(Runs(child, "a", kPages), With({kRoot}) + "10, absent 290, private 30, absent 270");
}

TEST_F(ExplainTest, PagesLeftByTheOthersAreUnshared) {
  MapWritten("a", kPages);
  const int child = Fork();
  Do("dontneed " + std::to_string(child) + " a 0 100");
  EXPECT_EQ(Runs(kRoot, "a", kPages), "unshared 100, " + With({child}) + "500");
  EXPECT_EQ(Runs(child, "a", kPages), "absent 100, " + With({kRoot}) + "500");
  Do("exit " + std::to_string(child));
  const Portrait alone = Look(kRoot);
  EXPECT_EQ(alone.members.size(), 1U);
  EXPECT_EQ(alone.exposure_pages, 0U);
  EXPECT_EQ(RunsAt(alone, workload_.Address(kRoot, "a"), kPages), "unshared 600");
  Write(kRoot, "a", 0, kPages);  // reuses the page without a copy
  EXPECT_EQ(Runs(kRoot, "a", kPages), "private 600");
}

TEST_F(ExplainTest, GrandchildrenShareWithWhomTheyDo) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  MapWritten("a", 300);
  const int child = Fork();
  Write(child, "a", 0, 100);
  const int grandchild = Fork(child);
  Write(grandchild, "a", 50, 100);
  EXPECT_EQ(Runs(grandchild, "a", 300), With({child}) + "50, copied 100, " + With({kRoot, child}) + "150");
  EXPECT_EQ(Runs(child, "a", 300),
            With({grandchild}) + "50, original 50, " + With({kRoot}) + "50, " + With({kRoot, grandchild}) + "150");
  // Its own fork has cleared the marks of the child's earlier copies, so they can't be attributed to it any more.
  EXPECT_EQ(Runs(kRoot, "a", 300), "unattributed 100, " + With({child}) + "50, " + With({child, grandchild}) + "150");
}

TEST_F(ExplainTest, MovedPagesFindTheirPartners) {
  MapWritten("a", kPages);
  const int child = Fork();
  Do("remap " + std::to_string(child) + " a");
  Write(child, "a", 0, 10);
  EXPECT_EQ(Runs(child, "a", kPages).substr(sizeof("private 10, ") - 1), With({kRoot}) + "590");
  EXPECT_EQ(Runs(kRoot, "a", kPages), "unshared 10, " + With({child}) + "590");
  const Portrait portrait = Look(kRoot);
  EXPECT_EQ(MappingAt(portrait, workload_.Address(kRoot, "a")).exposure_pages, 590U);
}

TEST_F(ExplainTest, ZeroPagesAreZero) {
  if (const std::string reason = WhyNoZeroPage(); !reason.empty()) GTEST_SKIP() << reason;
  workload_.Map(kRoot, "a", 300, "nohuge");
  Do("read 0 a 0 100");
  Write(kRoot, "a", 200, 100);
  const int child = Fork();
  EXPECT_EQ(Runs(kRoot, "a", 300), "zero 100, absent 100, " + With({child}) + "100");
}

TEST_F(ExplainTest, HugePagesStayWhatTheyAre) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const size_t window = HugePageBytes() / PageBytes();
  MapWritten("a", 2 * window, "huge");
  const int child = Fork();
  const Portrait whole = Look(kRoot);
  const uint64_t address = workload_.Address(kRoot, "a");
  const MappingPortrait& mapping = MappingAt(whole, address);
  if (mapping.sums.huge == 0) GTEST_SKIP() << "no huge page was to be had";
  EXPECT_EQ(mapping.sums.huge, 2 * window);
  EXPECT_EQ(RunsAt(whole, address, 2 * window), With({child}) + std::to_string(2 * window));
  Write(child, "a", 5, 1);
  EXPECT_EQ(Runs(child, "a", window), With({kRoot}) + "5, copied 1, " + With({kRoot}) + std::to_string(window - 6));
  EXPECT_EQ(Runs(kRoot, "a", 2 * window),
            With({child}) + "5, original 1, " + With({child}) + std::to_string(2 * window - 6));
}

TEST_F(ExplainTest, AHugePageOfOnesOwnIsHuge) {
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const size_t window = HugePageBytes() / PageBytes();
  MapWritten("a", window, "huge");
  const Portrait portrait = Look(kRoot);
  if (MappingAt(portrait, workload_.Address(kRoot, "a")).sums.huge == 0) GTEST_SKIP() << "no huge page was to be had";
  EXPECT_EQ(RunsAt(portrait, workload_.Address(kRoot, "a"), window), "huge " + std::to_string(window));
}

TEST_F(ExplainTest, PrivateFilePagesAreCopiedOrTheFiles) {
  const std::string path = ::testing::TempDir() + "/cow_explain_file" + std::to_string(getpid());
  std::ofstream(path) << std::string(200 * PageBytes(), 'x');
  Do("mapfile 0 f " + path + " 200 private");
  Do("mapfile 0 s " + path + " 100 shared");
  Do("read 0 f 0 200");
  Do("read 0 s 0 100");
  Write(kRoot, "f", 20, 30);
  EXPECT_EQ(Runs(kRoot, "f", 200), "original 20, copied 30, original 150");
  EXPECT_EQ(Runs(kRoot, "s", 100), "file 100");
  const int child = Fork();
  Do("read " + std::to_string(child) + " f 0 20");
  Write(child, "f", 20, 10);
  EXPECT_EQ(Runs(child, "f", 50), "original 20, copied 10, " + With({kRoot}) + "20");
  std::filesystem::remove(path);
}

TEST_F(ExplainTest, GuardRegionsAreGuards) {
  constexpr int kGuardInstall = 102;
  workload_.Map(kRoot, "a", 100, "nohuge");
  Write(kRoot, "a", 0, 100);
  try {
    Do("madvise 0 a " + std::to_string(kGuardInstall) + " 10 20");
  } catch (const std::runtime_error&) {
    GTEST_SKIP() << KernelLacks("guard regions that pagemap shows (Linux 6.15)");
  }
  EXPECT_EQ(Runs(kRoot, "a", 100), "private 10, guard 20, private 70");
}

TEST_F(ExplainTest, ALookAgainTellsWhatWasBrokenMeanwhile) {
  MapWritten("a", kPages);
  const int child = Fork();
  Do("stack 0 4");
  Do("stack " + std::to_string(child) + " 4");
  EXPECT_FALSE(Explained(explainer_, Pid(child), true).since_last_look);
  Write(child, "a", 0, 100);
  Write(kRoot, "a", 200, 50);
  const Portrait portrait = Explained(explainer_, Pid(child), true);
  ASSERT_TRUE(portrait.since_last_look);
  EXPECT_EQ(portrait.since_last_look->pages, 150U);
  ASSERT_EQ(portrait.members.size(), 2U);
  EXPECT_EQ(portrait.members[0].broken_since_last_look, 50U);
  EXPECT_EQ(portrait.members[1].broken_since_last_look, 100U);
  EXPECT_EQ(Explained(explainer_, Pid(child), true).since_last_look->pages, 0U);
}

// Returns the frames of all anonymous pages of all members from their page tables.
TEST_F(ExplainTest, EveryPageAgreesWithThePageTables) {
  constexpr unsigned kSeed = 7;
  std::mt19937 random(kSeed);
  MapWritten("a", kPages);
  std::vector<int> ids{kRoot};
  for (int i = 0; i < 4; ++i) {
    ids.push_back(Fork(ids[random() % ids.size()]));
    for (int j = 0; j < 12; ++j) {
      const size_t first = random() % kPages;
      Write(ids[random() % ids.size()], "a", first, 1 + random() % std::min<size_t>(40, kPages - first));
    }
  }
  const uint64_t zero = ZeroPageFrame();
  std::map<uint64_t, std::vector<pid_t>> holders;
  for (const int id : ids) {
    for (const Area& area : ReadAreas(Pid(id))) {
      if (area.permissions.at(3) != 'p') continue;
      for (const uint64_t entry : ReadPagemap(Pid(id), area.start, (area.end - area.start) / PageBytes())) {
        if (AnonymousFrame(entry) != 0 && AnonymousFrame(entry) != zero)
          holders[AnonymousFrame(entry)].push_back(Pid(id));
      }
    }
  }
  uint64_t exposure = 0;
  for (auto& [frame, pids] : holders) {
    exposure += pids.size() - 1;
    std::sort(pids.begin(), pids.end());
  }
  for (const int id : ids) {
    const Portrait portrait = Look(id);
    EXPECT_EQ(portrait.exposure_pages, exposure);
    EXPECT_EQ(portrait.members.size(), ids.size());
    size_t compared = 0;
    for (const MappingPortrait& mapping : portrait.mappings) {
      const procfs::Vma& vma = mapping.mapping.vma;
      if (vma.shared || mapping.runs.empty()) continue;
      const std::vector<uint64_t> entries = ReadPagemap(Pid(id), vma.start, vma.SizeBytes() / PageBytes());
      size_t page = 0;
      for (const explain::PageRun& run : mapping.runs) {
        ASSERT_EQ(run.start, vma.start + page * PageBytes()) << "a hole between runs";
        for (const size_t end = page + run.pages; page < end; ++page) {
          const uint64_t frame = AnonymousFrame(entries[page]);
          std::vector<pid_t> others;
          if (frame != 0 && frame != zero) others = holders.at(frame);
          std::erase(others, Pid(id));
          EXPECT_EQ(run.shared_with, others) << std::hex << vma.start + page * PageBytes();
          EXPECT_EQ(run.state == PageState::kShared, !others.empty());
          ++compared;
        }
      }
      EXPECT_EQ(page, entries.size());
    }
    EXPECT_GT(compared, kPages);
  }
}

TEST_F(ExplainTest, AProcessInTheSameMemoryIsShownByItsOwner) {
  MapWritten("a", 10);
  const pid_t other = std::stoi(workload_.Do("share 0"));
  const Portrait portrait = Explained(explainer_, other);
  EXPECT_EQ(portrait.pid, Pid(kRoot));
  EXPECT_EQ(portrait.asked, other);
  EXPECT_EQ(RunsAt(portrait, workload_.Address(kRoot, "a"), 10), "private 10");
}

TEST_F(ExplainTest, OnlyTheMappingAskedFor) {
  const uintptr_t address = MapWritten("a", 10);
  explain::LookOptions options;
  options.pages = {true, address + 5 * PageBytes()};
  const auto portrait = explainer_.Look(Pid(kRoot), options);
  ASSERT_TRUE(portrait);
  ASSERT_EQ(portrait->mappings.size(), 1U);
  EXPECT_EQ(RunsAt(*portrait, address, 10), "private 10");
  options.pages.address = 1;
  const auto nowhere = explainer_.Look(Pid(kRoot), options);
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().kind, Failure::Kind::kNoMapping);
}

TEST_F(ExplainTest, WhatCanNotBeExplainedSaysWhy) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  EXPECT_EQ(FailureOf(2).kind, Failure::Kind::kNoMemory);  // kthreadd
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_EQ(FailureOf(child).kind, Failure::Kind::kNoMemory);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(FailureOf(child).kind, Failure::Kind::kNoProcess);
  Do("threads 0 1");
  pid_t thread = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(Pid(kRoot)) + "/task")) {
    thread = std::max(thread, static_cast<pid_t>(std::stoi(entry.path().filename())));
  }
  EXPECT_EQ(FailureOf(thread).kind, Failure::Kind::kThread);
}

TEST_F(ExplainTest, AProcessThatEndsMeanwhileIsSaidToHaveEnded) {
  MapWritten("a", 4 * HugePageBytes() / PageBytes());
  const int child = Fork();
  const pid_t pid = Pid(child);
  int windows = 0;
  explain::LookOptions options;
  options.may_go_on = [&] {
    if (++windows == 3) Do("kill " + std::to_string(child));
    return true;
  };
  const auto portrait = explainer_.Look(pid, options);
  ASSERT_FALSE(portrait);
  EXPECT_EQ(portrait.error().kind, Failure::Kind::kEnded) << portrait.error().message;
}

}  // namespace
}  // namespace cow::live
