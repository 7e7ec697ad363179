// Answers /api/v1/families and /api/v1/explain. The responses show names and address layouts of processes; the server
// decides who may request them.
//
// One thread at a time, but Stop. Explain reads page tables and has a small CPU budget of its own. Beyond the budget it
// answers 503 with the time to wait.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "collectors/engine/engine.h"
#include "collectors/explain/explainer.h"
#include "collectors/procfs/root.h"
#include "exporter/channel/messages.h"
#include "exporter/explain/look_budget.h"

namespace cow::exporter {

struct ApiReply {
  unsigned status = 200;
  std::string body;  // JSON
};

ApiReply DescribeFamilies(const std::vector<collectors::FamilySummary>& families);

class Api {
 public:
  // Probes the kernel, for which it starts a process: call it before the reader is confined.
  explicit Api(procfs::Root root);

  ApiReply Explain(const ExplainQuery& query);
  // Ends the current look at its next window. Any thread.
  void Stop() { stopped_ = true; }

 private:
  std::atomic<bool> stopped_ = false;
  LookBudget budget_;
  explain::Explainer explainer_;
};

}  // namespace cow::exporter
