// Answers /api/v1/families and /api/v1/explain. The responses show names and address layouts of processes; the server
// decides who may request them.
//
// Any thread. /explain reads page tables: it answers one request at a time and has a small CPU budget of its own.
// Beyond the budget it answers 503 with the time to wait.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "collectors/explain/explainer.h"
#include "collectors/procfs/root.h"
#include "exporter/explain/look_budget.h"
#include "exporter/scan/snapshot.h"

namespace cow::exporter {

inline constexpr const char* kApiFamilies = "/api/v1/families";
inline constexpr const char* kApiExplain = "/api/v1/explain";

// The path and the decoded parameters of the URI.
struct ApiRequest {
  std::string path;
  std::optional<std::string> pid;
  std::optional<std::string> pages;    // any value: include runs of pages
  std::optional<std::string> mapping;  // an address
};

struct ApiReply {
  unsigned status = 200;
  std::string body;  // JSON
};

class Api {
 public:
  // Probes the kernel with a child process, so construct it before the process confines itself. `latest` returns the
  // snapshot to answer from. Must be thread-safe.
  Api(procfs::Root root, std::function<std::shared_ptr<const Snapshot>()> latest);

  ApiReply Answer(const ApiRequest& request);
  // Ends the current look at its next window.
  void Stop() { stopped_ = true; }

 private:
  ApiReply Families() const;
  ApiReply Explain(const ApiRequest& request);

  const std::function<std::shared_ptr<const Snapshot>()> latest_;
  std::atomic<bool> stopped_ = false;
  std::mutex one_at_a_time_;
  // Guarded by one_at_a_time_.
  LookBudget budget_;
  explain::Explainer explainer_;
};

}  // namespace cow::exporter
