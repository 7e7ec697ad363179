// The collector process: shared and private memory of single processes, compared with their page tables.
#include <string>
#include <vector>

#include "tests/live/live.h"

namespace cow::live {
namespace {

class ProcessTest : public LiveTest {
 protected:
  static collectors::EngineOptions Options() {
    collectors::EngineOptions options = DefaultOptions(DefaultFullEvery(), {"process"});
    options.collector_options.process.top = collectors::ProcessOptions::kMostTop;
    return options;
  }
  std::string Series(const std::string& name, int id) {
    return name + "{comm=" + group() + ",pid=" + std::to_string(workload().Pid(id)) + "}";
  }

  // Switches the collector on or off.
  void Switch(bool on) {
    collectors::EngineOptions options = Options();
    if (!on) std::erase(options.collectors, "process");
    engine_.Reconfigure(options);
  }

  collectors::Engine engine_{procfs::Root(), Options()};
};

TEST_F(ProcessTest, EachMembersOwnNumbers) {
  PassOf(engine_, group());
  constexpr size_t kPages = 3000;
  workload().Map(0, "a", kPages);
  Write(0, "a", 0, kPages);
  const int first = Fork();
  const int second = Fork();
  for (const int id : {0, first, second}) Idle(id);
  const Sample before = PassOf(engine_, group());
  Write(first, "a", 0, 700);
  Write(second, "a", 500, 100);
  PassOf(engine_, group());
  Do("remap " + std::to_string(second) + " a");  // its pages find their partners by frame
  const Sample after = PassOf(engine_, group());
  const Change change(before, after);
  EXPECT_EQ(change.Of(Series("cow_process_breaks_total", first)), 700);
  EXPECT_EQ(change.Of(Series("cow_process_breaks_total", second)), 100);
  EXPECT_EQ(change.Of(Series("cow_process_breaks_total", 0)), 0);
  const std::vector<pid_t> pids{workload().Pid(), workload().Pid(first), workload().Pid(second)};
  const AnonymousMemory all = CountAnonymousMemory(pids);
  double shared = 0;
  double own = 0;
  for (const int id : {0, first, second}) {
    shared += after.Pages(Series("cow_process_exposure_bytes", id));
    own += after.Pages(Series("cow_process_private_bytes", id));
  }
  EXPECT_EQ(shared, static_cast<double>(all.shared_pages));
  EXPECT_EQ(own, static_cast<double>(all.private_pages));
  EXPECT_EQ(change.Pages(Series("cow_process_private_bytes", first)), 700);
  EXPECT_EQ(change.Pages(Series("cow_process_exposure_bytes", second)), -100);

  // Values of an idle process change when others write.
  Do("kill " + std::to_string(first));
  Do("kill " + std::to_string(second));
  const Sample alone = PassOf(engine_, group());
  EXPECT_FALSE(alone.Has(Series("cow_process_exposure_bytes", first)));
  EXPECT_FALSE(alone.Has(Series("cow_process_exposure_bytes", 0))) << "it shares nothing any more";
}

TEST_F(ProcessTest, CountsGoOnWhereItIsSwitchedOnAgain) {
  PassOf(engine_, group());
  const int child = ForkOver("a", 300);
  const std::string breaks = Series("cow_process_breaks_total", child);
  const Sample before = PassOf(engine_, group());
  Write(child, "a", 0, 70);
  const Sample counted = PassOf(engine_, group());
  EXPECT_EQ(Change(before, counted).Of(breaks), 70);
  Switch(false);
  Write(child, "a", 70, 20);
  EXPECT_FALSE(PassOf(engine_, group()).Has(breaks));
  Write(child, "a", 90, 10);
  Switch(true);
  const Sample again = PassOf(engine_, group());
  EXPECT_EQ(Change(counted, again).Of(breaks), 0);
  Write(child, "a", 100, 30);
  EXPECT_EQ(Change(counted, PassOf(engine_, group())).Of(breaks), 30);
}

}  // namespace
}  // namespace cow::live
