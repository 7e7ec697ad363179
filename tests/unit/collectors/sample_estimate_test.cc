// The error bound is held against populations that are known, over many draws.
#include "collectors/sample_estimate.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "collectors/memory/sampling.h"

namespace cow::collectors {
namespace {

using memory::kNotDrawn;
using memory::PlannedWindow;
using memory::SampleRequest;
using memory::Sampling;

// Windows with a value each, sampled from pass to pass as the scanner and the engine do.
class Population {
 public:
  Population(size_t windows, uint64_t seed) : values_(windows), known_(windows), random_(seed) {
    for (size_t i = 0; i < windows; ++i) planned_.push_back({1000 + i, false});
    request_.seed = seed;
    request_.full_every = std::chrono::hours(24);
  }

  std::vector<int64_t>& values() { return values_; }
  int64_t Truth() const { return std::accumulate(values_.begin(), values_.end(), int64_t{0}); }

  // Half of the windows full, the others with anything, in runs as memory has them.
  void Fill() {
    std::uniform_int_distribution<int64_t> any(0, 512);
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = i / 50 % 2 == 0 ? 512 : any(random_);
  }
  // Pages of every window go, more in some parts than in others.
  void Break() {
    for (size_t i = 0; i < values_.size(); ++i) {
      std::uniform_int_distribution<int64_t> some(0, values_[i] / (1 + static_cast<int64_t>(i) / 200));
      values_[i] -= some(random_);
    }
  }
  void Pass(double share) {
    request_.share = share;
    sampling_.Draw(planned_, request_);
    estimate_.Begin();
    for (size_t i = 0; i < values_.size(); ++i) {
      const uint32_t stratum = sampling_.StratumOf(planned_[i].window);
      if (stratum == kNotDrawn) continue;
      const std::vector<int64_t> now{values_[i]};
      if (stratum != memory::kCertain) estimate_.Add(stratum, now, std::vector<int64_t>{known_[i]});
      known_[i] = values_[i];
      sampling_.WasRead(planned_[i].window, request_.now);
    }
    const std::vector<int64_t> known{std::accumulate(known_.begin(), known_.end(), int64_t{0})};
    estimate_.Finish(sampling_.strata(), known);
  }
  double Estimate() const { return static_cast<double>(estimate_.totals().front()); }
  double StandardError() const { return std::sqrt(estimate_.variances().front()); }
  double Error() const { return Estimate() - static_cast<double>(Truth()); }

 private:
  std::vector<int64_t> values_;
  std::vector<int64_t> known_;
  std::vector<PlannedWindow> planned_;
  std::mt19937_64 random_;
  SampleRequest request_;
  Sampling sampling_;
  SampleEstimate estimate_;
};

constexpr int kDraws = 4000;

// Of many populations and draws: the estimate is right on average, and two standard errors hold in 19 of 20.
struct Verdict {
  double sum_of_errors = 0;
  double sum_of_squares = 0;
  double sum_of_variances = 0;
  int within_two = 0;
  int within_four = 0;

  void Take(const Population& population) {
    const double error = population.Error();
    const double standard = population.StandardError();
    sum_of_errors += error;
    sum_of_squares += error * error;
    sum_of_variances += standard * standard;
    within_two += std::abs(error) <= 2 * standard ? 1 : 0;
    within_four += std::abs(error) <= 4 * standard ? 1 : 0;
  }
  void Expect(const char* what) const {
    const double bias = sum_of_errors / kDraws;
    const double deviation = std::sqrt(sum_of_squares / kDraws);
    const double published = std::sqrt(sum_of_variances / kDraws);
    std::printf(
        "%s: mean error %.1f, deviation %.1f, published standard error %.1f; within two %d, within four %d of %d\n",
        what, bias, deviation, published, within_two, within_four, kDraws);
    EXPECT_LE(std::abs(bias), 4 * deviation / std::sqrt(kDraws)) << what;
    EXPECT_NEAR(published / deviation, 1, 0.06) << what;
    EXPECT_GE(within_two, kDraws * 935 / 1000) << what;
    EXPECT_GE(within_four, kDraws * 995 / 1000) << what;
  }
};

TEST(SampleEstimateTest, ErrorBoundHolds) {
  Verdict first;
  Verdict changed;
  for (int draw = 0; draw < kDraws; ++draw) {
    Population population(1000, static_cast<uint64_t>(draw));
    population.Fill();
    population.Pass(0.1);
    first.Take(population);
    population.Pass(0.1);
    population.Pass(0.1);
    population.Break();
    population.Pass(0.1);
    changed.Take(population);
  }
  first.Expect("first look");
  changed.Expect("after a change everywhere");
}

TEST(SampleEstimateTest, KnownWindowsThatDoNotChangeHaveNoError) {
  Population population(500, 7);
  population.Fill();
  population.Pass(1);
  EXPECT_EQ(population.Error(), 0);
  EXPECT_EQ(population.StandardError(), 0);
  population.Pass(0.05);
  EXPECT_EQ(population.Error(), 0);
  EXPECT_EQ(population.StandardError(), 0);
  // The same change everywhere is seen by any sample.
  for (int64_t& value : population.values()) value += 3;
  population.Pass(0.05);
  EXPECT_EQ(population.Error(), 0);
  EXPECT_LT(population.StandardError(), 1e-6);
}

TEST(SampleEstimateTest, ErrorFallsAsMoreIsKnown) {
  Population population(1000, 3);
  population.Fill();
  population.Pass(0.1);
  const double first = population.StandardError();
  for (int pass = 0; pass < 20; ++pass) population.Pass(0.1);
  EXPECT_LT(population.StandardError(), first / 3);
  for (int pass = 0; pass < 100; ++pass) population.Pass(0.1);
  EXPECT_EQ(population.StandardError(), 0);
  EXPECT_EQ(population.Error(), 0);
}

TEST(SampleEstimateTest, IsNeverNegative) {
  SampleEstimate estimate;
  estimate.Begin();
  estimate.Add(0, std::vector<int64_t>{0}, std::vector<int64_t>{100});
  const std::vector<memory::Stratum> strata{{100, 10}};
  const std::vector<int64_t> known{50};
  estimate.Finish(strata, known);
  EXPECT_EQ(estimate.totals().front(), 0);
}

TEST(SampleEstimateTest, ResultsOfThePassBeforeStayUntilTheNextIsComplete) {
  SampleEstimate estimate;
  EXPECT_TRUE(estimate.empty());
  estimate.Begin();
  const std::vector<int64_t> known{50};
  estimate.Finish({}, known);
  estimate.Begin();
  estimate.Add(0, std::vector<int64_t>{7}, std::vector<int64_t>{0});
  EXPECT_EQ(estimate.totals().front(), 50);
  estimate.Begin();  // it was abandoned
  estimate.Finish({}, known);
  EXPECT_EQ(estimate.totals().front(), 50);
  estimate.Clear();
  EXPECT_TRUE(estimate.empty());
}

}  // namespace
}  // namespace cow::collectors
