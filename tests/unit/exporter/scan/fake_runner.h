// A pass runner whose passes the test controls.
#pragma once

#include <prometheus/metric_family.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "exporter/scan/pass_runner.h"

namespace cow::exporter {

// Its one metric, `fake_passes`, counts completed passes.
class FakeRunner final : public PassRunner {
 public:
  using Pass = std::function<bool(collectors::PassControl&)>;
  using NewForksAnswer = std::function<bool()>;
  explicit FakeRunner(
      Pass pass, NewForksAnswer new_forks = [] { return false; })
      : pass_(std::move(pass)), new_forks_(std::move(new_forks)) {}

  // CPU time of helper threads; the pass sets it.
  std::atomic<std::chrono::nanoseconds> helper_cpu = std::chrono::nanoseconds{0};

  // Runs at each call of Collect. Set it before the runner is used.
  std::function<void()> collect = [] {};

  // The options received; max_groups 0 is rejected.
  std::atomic<int> reconfigured = 0;
  void Reconfigure(const collectors::EngineOptions& options) override {
    if (options.max_groups == 0) throw std::invalid_argument("bad options");
    ++reconfigured;
  }

  bool NewForks() override { return new_forks_(); }
  [[nodiscard]] std::chrono::nanoseconds HelperCpuTime() const override { return helper_cpu; }

  bool RunPass(collectors::PassControl& control) override {
    const bool completed = pass_(control);
    if (completed) ++completed_;
    return completed;
  }

  [[nodiscard]] std::vector<collectors::CollectedFamilies> Collect() const override {
    collect();
    prometheus::ClientMetric metric;
    metric.counter.value = completed_.load();
    return {{"fake", {{"fake_passes", "Passes.", prometheus::MetricType::Counter, {metric}}}}};
  }

 private:
  Pass pass_;
  NewForksAnswer new_forks_;
  std::atomic<int> completed_ = 0;
};

}  // namespace cow::exporter
