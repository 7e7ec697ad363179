// Sums over all windows of a family of which a pass has read a sample, and how far off they may be.
//
// What is known of a window from earlier passes stands for it; what the windows drawn differ from that, weighted by how
// many others each stands for, is added (the difference estimator of survey sampling). Each draw is independent of what
// was known before, so the expected value is the true sum, whatever has changed; the variance is that of the
// differences alone and falls to nothing where nothing changes. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/cell_layout.h"
#include "collectors/memory/sampling.h"

namespace cow::collectors {

class SampleEstimate {
 public:
  // A pass begins; the results of the one before stay.
  void Begin();
  // A window of the stratum was read: each of its values now, and as it was known.
  void Add(uint32_t stratum, std::span<const int64_t> now, std::span<const int64_t> before);
  // The pass is complete; `known`: the sums over all windows of what is known of each now.
  void Finish(std::span<const memory::Stratum> strata, std::span<const int64_t> known);
  void Clear();
  // Between two passes: the values but for the last one are laid out anew.
  void LayOut(size_t values, std::span<const CellMove> moves);

  // No pass was completed.
  bool empty() const { return totals_.empty(); }
  // The sums, one for each value; never negative.
  std::span<const int64_t> totals() const { return totals_; }
  // Estimates of the totals' variances.
  std::span<const double> variances() const { return variances_; }

 private:
  struct Differences {
    double sum = 0;
    double squares = 0;
  };

  std::vector<std::vector<Differences>> strata_;  // by value; empty where nothing differed
  std::vector<int64_t> totals_;
  std::vector<double> variances_;
};

}  // namespace cow::collectors
