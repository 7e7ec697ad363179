// Families too large to be read whole: estimates with their error, against memory that is known to the page.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/live/live.h"

namespace cow::live {
namespace {

constexpr const char* kStandardError = "cow_sampled_standard_error_bytes";
constexpr const char* kCoverage = "cow_scan_coverage_ratio";
constexpr size_t kWindowPages = 512;
constexpr size_t kWindows = 128;
constexpr uint64_t kAbove = uint64_t{64} << 20;  // a quarter of what the workload has

class SamplingTest : public LiveTest {
 protected:
  SamplingTest() { AllowUnread(); }

  static collectors::EngineOptions Options(uint64_t seed, std::chrono::milliseconds full_every) {
    collectors::EngineOptions options = DefaultOptions();
    options.full_every = full_every;
    options.sample_above_bytes = kAbove;
    options.sample_seed = seed;
    return options;
  }
  // The root has memory in all windows.
  void MapAll() {
    workload().Map(0, "a", kWindows * kWindowPages, "aligned");
    Do("madvise 0 a 15 0 " + std::to_string(kWindows * kWindowPages));  // no huge pages
    Write(0, "a", 0, kWindows * kWindowPages);
    Idle(0);
  }
  // The member writes some pages of each window, more in higher ones. Returns how many.
  size_t WriteSome(int id, uint64_t seed) {
    std::mt19937_64 random(seed);
    size_t written = 0;
    for (size_t window = 0; window < kWindows; ++window) {
      const size_t pages = 1 + random() % (2 * window + 2);
      Write(id, "a", window * kWindowPages, pages);
      written += pages;
    }
    return written;
  }
  // Passes until every window has been read once more.
  Sample PassUntilAllIsKnown(collectors::Engine& engine) {
    for (int pass = 0; pass < 70; ++pass) PassOf(engine, group());
    return PassOf(engine, group());
  }
  Sample PassUntilOverdue(collectors::Engine& engine, std::chrono::milliseconds full_every) {
    PassOf(engine, group());
    const auto begin = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begin < full_every) {
      PassOf(engine, group());
      std::this_thread::sleep_for(full_every / 20);
    }
    return PassOf(engine, group());
  }
};

TEST_F(SamplingTest, EstimatesAreWithinTheirError) {
  MapAll();
  const int child = Fork();
  Idle(child);
  WriteSome(child, 1);
  const auto truth = CountAnonymousMemory({workload().Pid(), workload().Pid(child)});
  int within_two = 0;
  constexpr int kEngines = 20;
  for (uint64_t seed = 1; seed <= kEngines; ++seed) {
    collectors::Engine engine(procfs::Root(), Options(seed, std::chrono::hours(1)));
    const Sample sample = PassOf(engine, group());
    const double standard = sample.Pages(kStandardError);
    const double exposure = sample.Pages(kExposure) - static_cast<double>(truth.exposure_pages);
    const double footprint = sample.Pages(kFootprint) - static_cast<double>(truth.footprint_pages);
    ASSERT_GT(standard, 0);
    // A few percent of what is estimated, no wide net.
    EXPECT_LT(standard, static_cast<double>(truth.footprint_pages) / 5);
    EXPECT_LE(std::abs(exposure), 4 * standard) << seed;
    EXPECT_LE(std::abs(footprint), 4 * standard) << seed;
    within_two += std::abs(exposure) <= 2 * standard && std::abs(footprint) <= 2 * standard ? 1 : 0;
    EXPECT_GT(sample.At(kCoverage), 0.15) << seed;
    EXPECT_LT(sample.At(kCoverage), 0.4) << seed;
    if (seed == 1) {
      std::printf("exposure %.0f of %lu pages, footprint %.0f of %lu, standard error %.0f, coverage %.2f\n",
                  sample.Pages(kExposure), truth.exposure_pages, sample.Pages(kFootprint), truth.footprint_pages,
                  standard, sample.At(kCoverage));
    }
  }
  std::printf("within two standard errors: %d of %d\n", within_two, kEngines);
  EXPECT_GE(within_two, kEngines * 8 / 10);
}

TEST_F(SamplingTest, ReadsNoMoreThanItsShare) {
  MapAll();
  Idle(Fork());
  collectors::Engine whole(procfs::Root(), DefaultOptions(std::chrono::minutes(0)));
  collectors::Engine sampled(procfs::Root(), Options(1, std::chrono::hours(1)));
  const auto reads = [this](collectors::Engine& engine) {
    const Sample before = PassOf(engine, group());
    return Change(before, PassOf(engine, group())).Of("cow_scan_pages_total");
  };
  const double all = reads(whole);
  const double some = reads(sampled);
  std::printf("a pass read %.0f pages of the host, with sampling %.0f\n", all, some);
  // Two members of 65,536 pages each: three quarters of them are left out.
  EXPECT_LT(some, all - 2 * kWindows * kWindowPages * 0.6);
  EXPECT_EQ(PassOf(whole, group()).Has(kStandardError), false) << "only where sampling is on";
  EXPECT_GT(PassOf(sampled, group()).At("cow_scan_passes_total{kind=incremental}"), 0);
}

TEST_F(SamplingTest, BreaksAreCountedExactlyAsWindowsAreDrawn) {
  MapAll();
  collectors::Engine engine(procfs::Root(), Options(7, std::chrono::hours(1)));
  collectors::Engine whole(procfs::Root(), DefaultOptions());
  const Sample before = PassOf(engine, group());
  const Sample whole_before = PassOf(whole, group());
  const int child = Fork();
  Idle(child);
  // Most windows have their first look after both sides have written.
  const size_t by_child = WriteSome(child, 1);
  Do("write 0 a 400 " + std::to_string(kWindows) + " 512");
  const Sample first = PassOf(engine, group());
  EXPECT_GT(Change(before, first).Of(kChildBreaks), 0);
  EXPECT_LT(Change(before, first).Of(kChildBreaks), static_cast<double>(by_child) * 0.7);
  const Sample known = PassUntilAllIsKnown(engine);
  // What forking itself writes to is in both.
  const Sample whole_after = PassOf(whole, group());
  const Change exact(whole_before, whole_after);
  EXPECT_GE(exact.Pages(kAnonBreaks), static_cast<double>(by_child + kWindows));
  for (const char* series : {kAnonBreaks, kParentBreaks, kChildBreaks, kUnknownBreaks, kUnattributed}) {
    EXPECT_EQ(Change(before, known).Of(series), exact.Of(series)) << series;
  }
  EXPECT_EQ(known.At(kStandardError), 0);
  const auto truth = CountAnonymousMemory({workload().Pid(), workload().Pid(child)});
  EXPECT_EQ(known.Pages(kExposure), static_cast<double>(truth.exposure_pages));
  EXPECT_EQ(known.Pages(kFootprint), static_cast<double>(truth.footprint_pages));
  EXPECT_EQ(known.Pages(kUnresolved), 0);

  // Of what is recorded.
  Do("write " + std::to_string(child) + " a 401 " + std::to_string(kWindows) + " 512");
  const Sample again = PassUntilAllIsKnown(engine);
  EXPECT_EQ(Change(known, again).Pages(kAnonBreaks), static_cast<double>(kWindows));
  EXPECT_EQ(Change(known, again).Pages(kExposure), -static_cast<double>(kWindows));

  // The rest is the root's own when the child is gone; nothing of it is a break.
  const auto shared = CountAnonymousMemory({workload().Pid(), workload().Pid(child)}).exposure_pages;
  Do("kill " + std::to_string(child));
  const Sample after = PassUntilAllIsKnown(engine);
  EXPECT_EQ(Change(again, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(again, after).Pages(Unshared("exit")), static_cast<double>(shared));
  EXPECT_EQ(after.At(kExposure), 0);
  EXPECT_EQ(after.At("cow_processes"), 1);
}

TEST_F(SamplingTest, NothingIsLeftForLongerThanFullEvery) {
  MapAll();
  collectors::Engine engine(procfs::Root(), Options(3, std::chrono::seconds(2)));
  const int child = Fork();
  Idle(0);
  Idle(child);
  const Sample before = PassUntilOverdue(engine, std::chrono::seconds(2));
  const size_t by_child = WriteSome(child, 2);
  const Sample first = PassOf(engine, group());
  EXPECT_LT(Change(before, first).Pages(kAnonBreaks), static_cast<double>(by_child));
  const Sample after = PassUntilOverdue(engine, std::chrono::seconds(2));
  EXPECT_EQ(Change(before, after).Pages(kAnonBreaks), static_cast<double>(by_child));
}

TEST_F(SamplingTest, FamilyThatShrinksIsReadWholeAgain) {
  MapAll();
  collectors::Engine engine(procfs::Root(), Options(5, std::chrono::hours(1)));
  const Sample before = PassOf(engine, group());
  const int child = Fork();
  Idle(child);
  const size_t written = WriteSome(child, 3);
  EXPECT_LT(PassOf(engine, group()).At(kCoverage), 0.5);
  // What is left of each process is below the limit.
  const size_t kept = 24 * kWindowPages;
  for (const int id : {0, child}) {
    Do("unmap " + std::to_string(id) + " a " + std::to_string(kept) + " " +
       std::to_string(kWindows * kWindowPages - kept));
  }
  const Sample after = PassOf(engine, group());
  EXPECT_EQ(after.At(kCoverage), 1);
  EXPECT_EQ(after.At(kStandardError), 0);
  const auto truth = CountAnonymousMemory({workload().Pid(), workload().Pid(child)});
  EXPECT_EQ(after.Pages(kExposure), static_cast<double>(truth.exposure_pages));
  EXPECT_EQ(after.Pages(kFootprint), static_cast<double>(truth.footprint_pages));
  // No break of the windows that are left is lost.
  size_t in_kept = 0;
  std::mt19937_64 random(3);
  for (size_t window = 0; window < 24; ++window) in_kept += 1 + random() % (2 * window + 2);
  EXPECT_GE(Change(before, after).Pages(kAnonBreaks), static_cast<double>(in_kept));
  EXPECT_LE(Change(before, after).Pages(kAnonBreaks), static_cast<double>(written));
  // As exact as any family from now on.
  Do("write " + std::to_string(child) + " a 500 24 512");
  EXPECT_EQ(Change(after, PassOf(engine, group())).Pages(kAnonBreaks), 24);
}

// Shared memory of a process without relatives; its anonymous memory is the kernel's sum, which no draw blurs.
TEST_F(SamplingTest, SharedMemoryOfALonelyProcess) {
  workload().Map(0, "s", kWindows * kWindowPages, "shared");
  Do("write 0 s 0 " + std::to_string(kWindows * kWindowPages / 2));
  workload().Map(0, "a", 3000);
  Write(0, "a", 0, 3000);
  collectors::Engine whole(procfs::Root(), DefaultOptions());
  const Sample truth = PassOf(whole, group());
  constexpr const char* kShmem = "cow_resident_bytes{backing=shmem,sharing=private}";
  collectors::Engine engine(procfs::Root(), Options(2, std::chrono::hours(1)));
  for (int pass = 0; pass < 5; ++pass) {
    const Sample sample = PassOf(engine, group());
    EXPECT_EQ(sample.At(kFootprint), truth.At(kFootprint));
    // One window alone may differ from its neighbours, and be drawn or not.
    const double slack = 2 * kWindowPages * static_cast<double>(PageBytes());
    EXPECT_LE(std::abs(sample.At(kShmem) - truth.At(kShmem)), 4 * sample.At(kStandardError) + slack) << pass;
    EXPECT_LE(sample.At(kCoverage), 1);
  }
  const Sample known = PassUntilAllIsKnown(engine);
  EXPECT_EQ(known.At(kShmem), truth.At(kShmem));
  EXPECT_EQ(known.At(kStandardError), 0);
}

// Its partner may be in a window that was not drawn: it is shared, nobody knows with whom.
TEST_F(SamplingTest, PagesThatMovedAreUnresolved) {
  MapAll();
  const int child = Fork();
  Idle(child);
  Do("remap " + std::to_string(child) + " a");
  collectors::Engine engine(procfs::Root(), Options(4, std::chrono::seconds(1)));
  const Sample sample = PassUntilOverdue(engine, std::chrono::seconds(1));
  EXPECT_EQ(sample.Pages(kUnresolved), 2 * kWindows * kWindowPages);
  EXPECT_EQ(sample.Pages(kUnmatched), 0);
  EXPECT_EQ(sample.BreaksOfAllSides(), 0);
  const auto truth = CountAnonymousMemory({workload().Pid(), workload().Pid(child)});
  EXPECT_EQ(sample.Pages("cow_shared_bytes"), static_cast<double>(truth.shared_pages));
}

}  // namespace
}  // namespace cow::live
