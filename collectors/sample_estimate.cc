#include "collectors/sample_estimate.h"

#include <algorithm>
#include <cmath>

namespace cow::collectors {

void SampleEstimate::Begin() { strata_.clear(); }

void SampleEstimate::Add(uint32_t stratum, std::span<const int64_t> now, std::span<const int64_t> before) {
  if (std::equal(now.begin(), now.end(), before.begin(), before.end())) return;
  if (stratum >= strata_.size()) strata_.resize(stratum + 1);
  std::vector<Differences>& differences = strata_[stratum];
  differences.resize(now.size());
  for (size_t i = 0; i < now.size(); ++i) {
    const auto difference = static_cast<double>(now[i] - before[i]);
    differences[i].sum += difference;
    differences[i].squares += difference * difference;
  }
}

void SampleEstimate::Finish(std::span<const memory::Stratum> strata, std::span<const int64_t> known) {
  std::vector<double> corrections(known.size(), 0);
  variances_.assign(known.size(), 0);
  for (size_t h = 0; h < std::min(strata.size(), strata_.size()); ++h) {
    const auto windows = static_cast<double>(strata[h].windows);
    const auto drawn = static_cast<double>(strata[h].drawn);
    for (size_t i = 0; i < strata_[h].size(); ++i) {
      const auto& [sum, squares] = strata_[h][i];
      // The drawn ones are in what is known already.
      corrections[i] += (windows / drawn - 1) * sum;
      const double variance = std::max(0.0, (squares - sum * sum / drawn) / (drawn - 1));
      variances_[i] += windows * (windows - drawn) * variance / drawn;
    }
  }
  totals_.resize(known.size());
  for (size_t i = 0; i < known.size(); ++i) {
    totals_[i] = std::max<int64_t>(0, known[i] + std::llround(corrections[i]));
  }
  strata_.clear();
}

void SampleEstimate::Clear() {
  strata_.clear();
  totals_.clear();
  variances_.clear();
}

void SampleEstimate::LayOut(size_t values, std::span<const CellMove> moves) {
  strata_.clear();
  if (empty()) return;
  const auto lay_out = [&](auto& of_all) {
    auto laid_out = LaidOut(of_all, values, moves);
    laid_out.push_back(of_all.back());
    of_all = std::move(laid_out);
  };
  lay_out(totals_);
  lay_out(variances_);
}

}  // namespace cow::collectors
