// What the scan loop needs of the engine, so that the loop can be tested without one.
#pragma once

#include <chrono>
#include <utility>
#include <vector>

#include "collectors/engine/engine.h"
#include "exporter/log/log.h"

namespace cow::exporter {

// Thread rule: as Engine's. Both are called by one thread at a time; Collect also from within PassControl::Continue.
class PassRunner {
 public:
  PassRunner() = default;
  virtual ~PassRunner() = default;
  PassRunner(const PassRunner&) = delete;
  PassRunner& operator=(const PassRunner&) = delete;

  // True if the pass was completed.
  virtual bool RunPass(collectors::PassControl& control) = 0;
  [[nodiscard]] virtual std::vector<collectors::CollectedFamilies> Collect() const = 0;
  // Thread rule as Collect's.
  [[nodiscard]] virtual std::vector<collectors::FamilySummary> Families() const { return {}; }
  // Whether a pass now would be the early first look at a fork.
  virtual bool NewForks() { return false; }
  // As Engine's, between two passes.
  virtual void Reconfigure(const collectors::EngineOptions& /*options*/) {}
  // CPU time so far of the threads that scan besides the calling one. Any thread.
  [[nodiscard]] virtual std::chrono::nanoseconds HelperCpuTime() const { return std::chrono::nanoseconds{0}; }
  // What has to be told since the call before.
  virtual std::vector<collectors::ModeNotice> TakeNotices() { return {}; }
};

// Puts into the log which processes can't be seen in full and which collectors failed, and why.
void LogNotices(PassRunner& runner, Log& log);

class EngineRunner final : public PassRunner {
 public:
  // Throws what Engine's constructor throws.
  EngineRunner(procfs::Root root, collectors::EngineOptions options) : engine_(std::move(root), std::move(options)) {}

  bool RunPass(collectors::PassControl& control) override { return engine_.RunPass(control); }
  [[nodiscard]] std::vector<collectors::CollectedFamilies> Collect() const override {
    return engine_.CollectByCollector();
  }
  [[nodiscard]] std::vector<collectors::FamilySummary> Families() const override { return engine_.Families(); }
  bool NewForks() override { return engine_.NewForks(); }
  void Reconfigure(const collectors::EngineOptions& options) override { engine_.Reconfigure(options); }
  [[nodiscard]] std::chrono::nanoseconds HelperCpuTime() const override { return engine_.HelperCpuTime(); }
  std::vector<collectors::ModeNotice> TakeNotices() override { return engine_.TakeNotices(); }

 private:
  collectors::Engine engine_;
};

}  // namespace cow::exporter
