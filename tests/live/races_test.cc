// Processes end, exec, unmap and fork in the middle of a pass, and reads fail there: at every access of the readers to
// a family, or at an evenly spread sample.
//
// COW_RACES_EVERY=1 takes every single access (long).
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "collectors/procfs/root.h"
#include "tests/live/live.h"
#include "tests/support/pass_control.h"

namespace cow::live {
namespace {

using procfs::Access;
using testing::Workload;

constexpr size_t kPlaces = 16;  // tried places of a pass, unless all are
constexpr size_t kRacePages = 300;

// Counts the accesses to some processes, and runs an action at one of them.
class Script : public procfs::Interposer {
 public:
  using Action = std::function<std::optional<Error>(const std::string& path)>;

  std::optional<Error> Before(Access access, const std::string& path) override {
    if (!counting_ || !Concerns(path)) return std::nullopt;
    if (count_++ != at_) return std::nullopt;
    place_ = path + " " + std::to_string(static_cast<int>(access));
    return action_(path);
  }

  // Starts anew; the action runs at access number `at`.
  void Start(std::vector<std::string> paths, size_t at = ~size_t{0}, Action action = {}) {
    paths_ = std::move(paths);
    at_ = at;
    action_ = std::move(action);
    count_ = 0;
    counting_ = true;
    place_.clear();
  }
  // Returns the number of accesses since then.
  size_t Stop() {
    counting_ = false;
    return count_;
  }
  // Returns the place of the action; empty if it has not run.
  const std::string& place() const { return place_; }

 private:
  // `paths_`: files, or directories with everything below them.
  bool Concerns(const std::string& path) const {
    return std::any_of(paths_.begin(), paths_.end(), [&path](const std::string& concerned) {
      return concerned.ends_with('/') ? path.starts_with(concerned) : path == concerned;
    });
  }

  std::vector<std::string> paths_;
  size_t at_ = 0;
  Action action_;
  size_t count_ = 0;
  bool counting_ = false;
  std::string place_;
};

// A root with two children. Each of the three has copied some pages since the last pass.
class Family {
 public:
  static constexpr int kElder = 1;
  static constexpr int kYounger = 2;  // the member that the action concerns
  static constexpr double kEldersBreaks = 20;
  static constexpr double kRootsBreaks = 10;
  static constexpr double kYoungersBreaks = 15;

  explicit Family(std::unique_ptr<Workload> workload) : workload_(std::move(workload)) {
    workload_->Map(Workload::kRoot, "a", kRacePages);
    Do("write 0 a 0 " + std::to_string(kRacePages));
    pids_.push_back(workload_->Pid());
    for (const int child : {kElder, kYounger}) {
      pids_.push_back(workload_->Fork().pid);
      Idle(Workload::kRoot);
      Idle(child);
    }
  }

  void Write() {
    Do("write 1 a 0 20");
    Do("write 0 a 100 10");
    Do("write 2 a 200 15");
  }
  std::string Do(const std::string& command) { return workload_->Do(command); }
  void Idle(int id) { Do(std::string("stack ").append(std::to_string(id)).append(" 4")); }
  pid_t PidOf(int id) const { return pids_.at(static_cast<size_t>(id)); }
  const std::vector<pid_t>& pids() const { return pids_; }
  void Add(pid_t pid) { pids_.push_back(pid); }
  Workload& workload() { return *workload_; }

  std::vector<std::string> Paths() const {
    std::vector<std::string> paths;
    for (const pid_t pid : pids_) paths.push_back(std::string("/proc/").append(std::to_string(pid)).append("/"));
    return paths;
  }

 private:
  std::unique_ptr<Workload> workload_;
  std::vector<pid_t> pids_;
};

constexpr double kSurvivorsBreaks = Family::kEldersBreaks + Family::kRootsBreaks;
constexpr double kForksNoise = 8;  // pages of libraries' data that a fork writes to, in areas of the same kind
constexpr double kAllBreaks = kSurvivorsBreaks + Family::kYoungersBreaks;

// An action on a family during a pass, and the expectations afterwards.
struct Deed {
  const char* name = "";
  std::function<void(Family&)> act;
  std::vector<int> survivors;  // members of the family afterwards
  double least_breaks = 0;     // breaks in the family's mapping
  double most_breaks = 0;
  double forks = 0;
};

class RacesTest : public LiveTest {
 protected:
  RacesTest() : RacesTest(std::make_shared<Script>()) {}

  std::string Name() const { return group() + "r"; }
  Family MakeFamily() { return Family(StartWorkload(Name())); }

  static bool TakesAll() { return std::getenv("COW_RACES_EVERY") != nullptr; }  // NOLINT(concurrency-mt-unsafe)
  // Returns the places to try among `count` accesses.
  std::vector<size_t> Places(size_t count) {
    std::vector<size_t> places;
    const size_t step = TakesAll() ? 1 : std::max<size_t>(1, count / kPlaces);
    for (size_t place = TakesAll() ? 0 : random_() % step; place < count; place += step) places.push_back(place);
    return places;
  }

  static void ExpectCountersGoUp(const Sample& before, const Sample& after) {
    for (const auto& [series, value] : before.values()) {
      const std::string name = series.substr(0, series.find('{'));
      const bool counter = name.ends_with("_total") || name.ends_with("_count") || name.ends_with("_sum");
      if (counter) {
        ASSERT_TRUE(after.Has(series)) << series;
        EXPECT_GE(after.At(series), value) << series;
      }
    }
  }

  static double Unread(const Sample& sample) {
    double sum = 0;
    for (const char* reason : {"denied", "gone", "budget", "malformed"}) {
      sum += sample.At(std::string("cow_unread_processes{reason=").append(reason).append("}"));
    }
    return sum;
  }

  // Checks the pass that was disturbed.
  static void ExpectHonest(const Sample& sample) {
    if (!sample.Has("cow_scan_coverage_ratio")) return;  // no member is left
    EXPECT_GE(sample.At("cow_scan_coverage_ratio"), 0);
    EXPECT_LE(sample.At("cow_scan_coverage_ratio"), 1);
    if (Unread(sample) > 0) {
      EXPECT_LT(sample.At("cow_scan_coverage_ratio"), 1);
    }
  }

  // Checks a quiet pass.
  static void ExpectTruth(const Sample& sample, const std::vector<pid_t>& living) {
    const AnonymousMemory memory = CountAnonymousMemory(living);
    EXPECT_EQ(sample.At("cow_processes"), static_cast<double>(living.size()));
    EXPECT_EQ(sample.Pages("cow_resident_bytes{backing=anon,sharing=private}"),
              static_cast<double>(memory.private_pages));
    EXPECT_EQ(sample.Pages("cow_shared_bytes"), static_cast<double>(memory.shared_pages));
    EXPECT_EQ(sample.Pages(kExposure), static_cast<double>(memory.exposure_pages));
    EXPECT_EQ(sample.Pages("cow_footprint_bytes"), static_cast<double>(memory.footprint_pages));
    EXPECT_EQ(sample.At("cow_unmatched_shared_bytes"), 0);
    EXPECT_EQ(sample.At("cow_unresolved_bytes"), 0);
    EXPECT_EQ(Unread(sample), 0);
    EXPECT_EQ(sample.At("cow_scan_coverage_ratio"), 1);
  }

  static double AllUnshared(const Change& change) {
    return change.Pages(Unshared("exit")) + change.Pages(Unshared("unmap")) + change.Pages(Unshared("collapse")) +
           change.Pages(Unshared("unknown"));
  }

  // Paths that are read for the family, and host files that are read for it.
  static std::vector<std::string> PathsOf(const Family& family) {
    std::vector<std::string> paths = family.Paths();
    for (const char* file : {"/proc", "/proc/kpageflags", "/proc/kpagecount", "/proc/vmstat", "/proc/meminfo"}) {
      paths.emplace_back(file);
    }
    return paths;
  }

  // Runs an undisturbed pass over a family and returns the number of accesses.
  size_t CountAccesses() {
    Family family = MakeFamily();
    Pass(Name());
    Pass(Name());
    family.Write();
    script_->Start(PathsOf(family));
    Pass(Name());
    return script_->Stop();
  }

  void Disturb(const Deed& deed, size_t place) {
    Family family = MakeFamily();
    Pass(Name());
    const Sample before = Pass(Name());
    family.Write();
    script_->Start(PathsOf(family), place, [&](const std::string&) {
      deed.act(family);
      return std::nullopt;
    });
    Sample disturbed = Pass(Name());
    script_->Stop();
    SCOPED_TRACE(std::string(deed.name) + " before access " + std::to_string(place) + ", " + script_->place());
    if (script_->place().empty()) return;  // this pass was shorter
    ExpectCountersGoUp(before, disturbed);
    ExpectHonest(disturbed);
    const Sample settled = Pass(Name());
    const Sample after = Pass(Name());
    ExpectCountersGoUp(disturbed, settled);
    std::vector<pid_t> living;
    for (const int id : deed.survivors) living.push_back(family.PidOf(id));
    ExpectTruth(after, living);
    const Change change(before, after);
    EXPECT_GE(change.Pages(kAnonBreaks), deed.least_breaks);
    EXPECT_LE(change.Pages(kAnonBreaks), deed.most_breaks);
    EXPECT_LE(AllUnshared(change), before.Pages("cow_shared_bytes"));
    EXPECT_EQ(change.Of("cow_forks_total"), deed.forks);
    const Change quiet(settled, after);
    EXPECT_EQ(quiet.BreaksOfAllSides(), 0);
    EXPECT_EQ(AllUnshared(quiet), 0);
    EXPECT_EQ(quiet.Of(kUnattributed), 0);
  }

  void DisturbEverywhere(const Deed& deed) {
    const size_t accesses = CountAccesses();
    size_t places = 0;
    for (const size_t place : Places(accesses)) {
      Disturb(deed, place);
      ++places;
      if (HasFailure()) break;
    }
    std::printf("%s at %zu of %zu accesses\n", deed.name, places, accesses);
  }

  // One access fails; everything is counted in this pass or the next.
  void Fail(ErrorKind kind, size_t place) {
    Family family = MakeFamily();
    Pass(Name());
    const Sample before = Pass(Name());
    family.Write();
    script_->Start(PathsOf(family), place, [kind](const std::string& path) {
      return Error{kind, path, 0, "on purpose"};
    });
    const bool completed = TryPass();
    script_->Stop();
    const std::string where = script_->place();
    SCOPED_TRACE(std::string(ErrorKindName(kind)) + " at access " + std::to_string(place) + ", " + where);
    if (where.empty()) return;  // this pass was shorter
    EXPECT_TRUE(completed || where.starts_with("/proc ")) << "only without a list of processes there is no pass";
    const Sample disturbed = Collect(Name());
    ExpectCountersGoUp(before, disturbed);
    ExpectHonest(disturbed);
    Pass(Name());
    const Sample settled = Pass(Name());
    const Sample after = Pass(Name());
    ExpectCountersGoUp(disturbed, settled);
    ExpectTruth(after, family.pids());
    const Change change(before, after);
    // A process whose stat or status is gone counts as ended, and as a new one afterwards.
    const bool ended = kind == ErrorKind::kGone &&
                       (where.find("/stat ") != std::string::npos || where.find("/status ") != std::string::npos);
    EXPECT_LE(change.Pages(kAnonBreaks), kAllBreaks + (ended ? kForksNoise : 0));
    if (!ended) {
      EXPECT_EQ(change.Pages(kAnonBreaks), kAllBreaks);
      EXPECT_EQ(change.Of("cow_forks_total"), 0);
      EXPECT_EQ(change.Of(kUnattributed), 0);
      EXPECT_EQ(AllUnshared(change), 0);
    }
    const Change quiet(settled, after);
    EXPECT_EQ(quiet.BreaksOfAllSides(), 0);
    EXPECT_EQ(AllUnshared(quiet), 0);
  }

  void FailEverywhere(ErrorKind kind) {
    const size_t accesses = CountAccesses();
    size_t places = 0;
    for (const size_t place : Places(accesses)) {
      Fail(kind, place);
      ++places;
      if (HasFailure()) break;
    }
    std::printf("%s at %zu of %zu accesses\n", std::string(ErrorKindName(kind)).c_str(), places, accesses);
  }

  std::shared_ptr<Script> script_;
  std::mt19937 random_{std::random_device()()};

 private:
  explicit RacesTest(std::shared_ptr<Script> script)
      : LiveTest(DefaultFullEvery(), {}, procfs::Root("/proc", "/sys", script)), script_(std::move(script)) {
    AllowUnread();
  }
};

TEST_F(RacesTest, ChildEnds) {
  DisturbEverywhere({"kill", [](Family& family) { family.Do("kill 2"); }, {0, 1}, kSurvivorsBreaks, kAllBreaks, 0});
}

TEST_F(RacesTest, ChildBecomesAZombie) {
  DisturbEverywhere(
      {"zombie", [](Family& family) { family.Do("kill 2 zombie"); }, {0, 1}, kSurvivorsBreaks, kAllBreaks, 0});
}

TEST_F(RacesTest, ChildExecs) {
  DisturbEverywhere({"exec", [](Family& family) { family.Do("exec 2"); }, {0, 1}, kSurvivorsBreaks, kAllBreaks, 0});
}

TEST_F(RacesTest, ChildUnmaps) {
  DisturbEverywhere(
      {"unmap", [](Family& family) { family.Do("unmap 2 a 0 150"); }, {0, 1, 2}, kAllBreaks, kAllBreaks, 0});
}

// Pages dropped and written again between two looks count as breaks, at most the shared ones.
TEST_F(RacesTest, ChildMapsAnew) {
  DisturbEverywhere({"remapfixed",
                     [](Family& family) {
                       family.Do("remapfixed 2 a 0 150");
                       family.Do("write 2 a 0 150");
                     },
                     {0, 1, 2},
                     kAllBreaks,
                     kAllBreaks + 150,
                     0});
}

TEST_F(RacesTest, ChildForks) {
  DisturbEverywhere({"fork",
                     [](Family& family) { family.Add(family.workload().Fork(2).pid); },
                     {0, 1, 2, 3},
                     kAllBreaks,
                     kAllBreaks + kForksNoise,
                     1});
}

// The elder child becomes the root.
TEST_F(RacesTest, RootEnds) {
  DisturbEverywhere({"kill root",
                     [](Family& family) {
                       family.Do("survive 1");
                       family.Do("survive 2");
                       kill(family.PidOf(0), SIGKILL);
                       for (int i = 0; i < 1000 && !ReadAreas(family.PidOf(0)).empty(); ++i) {
                         std::this_thread::sleep_for(std::chrono::milliseconds(1));
                       }
                     },
                     {1, 2},
                     Family::kEldersBreaks + Family::kYoungersBreaks,
                     kAllBreaks,
                     0});
}

TEST_F(RacesTest, ReadIsDenied) { FailEverywhere(ErrorKind::kDenied); }
TEST_F(RacesTest, ReadIsMalformed) { FailEverywhere(ErrorKind::kMalformed); }
TEST_F(RacesTest, ReadFails) { FailEverywhere(ErrorKind::kIo); }
TEST_F(RacesTest, ReadFindsNobody) { FailEverywhere(ErrorKind::kGone); }

// Abandons a pass at each step in turn until a pass is complete.
class AbandonTest : public LiveTest {
 protected:
  // Runs before the workload starts.
  AbandonTest() {
    test::NoControl control;
    disturbed_.RunPass(control);
  }
  // Both engines, one disturbed and one not, must agree in the end.
  void ExpectNothingLost(const char* what) {
    SCOPED_TRACE(what);
    uint64_t steps = 0;
    for (bool completed = false; !completed; steps += 1 + steps / 8) {
      test::AbandonAfter control(steps);
      completed = disturbed_.RunPass(control);
    }
    ASSERT_GT(steps, 50U);
    const Sample expected = Pass();
    const Sample sample(test::CollectDeclared(disturbed_), group());
    for (const auto& [series, value] : expected.values()) {
      const bool counted = std::any_of(kCompared.begin(), kCompared.end(),
                                       [&series = series](const char* name) { return series.starts_with(name); });
      if (counted) {
        EXPECT_EQ(sample.At(series), value) << series;
      }
    }
  }

  static constexpr std::array kCompared{"cow_break",    "cow_unshared",  "cow_unattributed", "cow_fork",
                                        "cow_exposure", "cow_footprint", "cow_processes",    "cow_minor_faults"};
  collectors::Engine disturbed_{procfs::Root(), DefaultOptions()};
};

TEST_F(AbandonTest, NothingIsLostNorCountedTwice) {
  const int elder = ForkOver("a", 3000);
  const int younger = ForkWarm();
  ExpectNothingLost("first look");
  Write(elder, "a", 0, 700);
  Write(0, "a", 600, 200);
  ExpectNothingLost("breaks");
  Do("remap " + std::to_string(younger) + " a");
  Write(elder, "a", 1000, 50);
  ExpectNothingLost("moved pages");
  const int newcomer = ForkWarm(elder);
  Do("exec " + std::to_string(younger));
  Write(newcomer, "a", 2000, 100);
  ExpectNothingLost("fork and exec");
  Do("kill " + std::to_string(elder));
  ExpectNothingLost("end");
}

}  // namespace
}  // namespace cow::live
