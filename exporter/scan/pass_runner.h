// The interface between scan loop and engine. Tests replace the engine behind it.
#pragma once

#include <chrono>
#include <utility>
#include <vector>

#include "collectors/engine/engine.h"
#include "exporter/log/log.h"

namespace cow::exporter {

// Call it from one thread at a time. Collect and Families may also be called from within PassControl::Continue.
class PassRunner {
 public:
  PassRunner() = default;
  virtual ~PassRunner() = default;
  PassRunner(const PassRunner&) = delete;
  PassRunner& operator=(const PassRunner&) = delete;

  // Returns true if the pass completed.
  virtual bool RunPass(collectors::PassControl& control) = 0;
  [[nodiscard]] virtual std::vector<collectors::CollectedFamilies> Collect() const = 0;
  [[nodiscard]] virtual std::vector<collectors::FamilySummary> Families() const { return {}; }
  // True if a known process forked, so that a pass should start early.
  virtual bool NewForks() { return false; }
  // Changes the engine's options. Call it between passes. Throws what Engine::Reconfigure throws.
  virtual void Reconfigure(const collectors::EngineOptions& /*options*/) {}
  // Total CPU time of the helper threads; excludes the thread that calls RunPass. Any thread.
  [[nodiscard]] virtual std::chrono::nanoseconds HelperCpuTime() const { return std::chrono::nanoseconds{0}; }
  // Returns and clears the notices to log.
  virtual std::vector<collectors::ModeNotice> TakeNotices() { return {}; }
};

// Logs the runner's notices: unreadable processes, failed collectors, and why.
void LogNotices(PassRunner& runner, Log& log);

class EngineRunner final : public PassRunner {
 public:
  EngineRunner(procfs::Root root, collectors::EngineOptions options, netlink::GivenSockets sockets = {})
      : engine_(std::move(root), std::move(options), collectors::Registry(), std::move(sockets)) {}

  bool RunPass(collectors::PassControl& control) override { return engine_.RunPass(control); }
  [[nodiscard]] std::vector<collectors::CollectedFamilies> Collect() const override {
    return engine_.CollectByCollector();
  }
  [[nodiscard]] std::vector<collectors::FamilySummary> Families() const override { return engine_.Families(); }
  // See Engine::SetSandbox. Call it before the first pass.
  void SetSandbox(bool complete) { engine_.SetSandbox(complete); }
  bool NewForks() override { return engine_.NewForks(); }
  void Reconfigure(const collectors::EngineOptions& options) override { engine_.Reconfigure(options); }
  [[nodiscard]] std::chrono::nanoseconds HelperCpuTime() const override { return engine_.HelperCpuTime(); }
  std::vector<collectors::ModeNotice> TakeNotices() override { return engine_.TakeNotices(); }

 private:
  collectors::Engine engine_;
};

}  // namespace cow::exporter
