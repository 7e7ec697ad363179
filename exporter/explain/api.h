// What /api/v1/families and /api/v1/explain answer. They show names and address layouts of processes: who may ask is
// the server's to decide.
//
// Answer is called by many threads. /explain reads page tables: one request is answered at a time, and their CPU time
// is bounded by a small budget of their own. Beyond it they are refused, with the time after which to ask again.
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

// Arguments of the URI as they were sent.
struct ApiRequest {
  std::string path;
  std::optional<std::string> pid;
  std::optional<std::string> pages;    // there: with runs of pages
  std::optional<std::string> mapping;  // an address
};

struct ApiReply {
  unsigned status = 200;
  std::string body;  // JSON
};

class Api {
 public:
  // `latest` gives the snapshot to answer from; many threads call it.
  Api(procfs::Root root, std::function<std::shared_ptr<const Snapshot>()> latest);

  ApiReply Answer(const ApiRequest& request);
  // Ends a look under way at its next window.
  void Stop() { stopped_ = true; }

 private:
  ApiReply Families() const;
  ApiReply Explain(const ApiRequest& request);

  const procfs::Root root_;
  const std::function<std::shared_ptr<const Snapshot>()> latest_;
  std::atomic<bool> stopped_ = false;
  std::mutex one_at_a_time_;
  // Of who holds the mutex.
  LookBudget budget_;
  std::unique_ptr<explain::Explainer> explainer_;  // made when it is first needed
};

}  // namespace cow::exporter
