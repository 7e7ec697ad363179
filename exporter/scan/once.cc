#include "exporter/scan/once.h"

#include <cerrno>
#include <chrono>
#include <string>
#include <system_error>

#include "collectors/base/cpu_clock.h"
#include "exporter/scan/publisher.h"

namespace cow::exporter {
namespace {

class Unlimited final : public collectors::PassControl {
 public:
  bool Continue() override { return true; }
};

}  // namespace

bool RunOnce(PassRunner& runner, const SelfMetrics& self_metrics, std::FILE* out, Log& log) {
  const auto start = std::chrono::steady_clock::now();
  Unlimited control;
  if (!runner.RunPass(control)) {
    log.Error("pass not completed");
    return false;
  }
  LogNotices(runner, log);
  ScanStatistics statistics;
  statistics.last_duration = std::chrono::steady_clock::now() - start;
  statistics.cpu = ThreadCpuTime() + runner.HelperCpuTime();
  const PreparedFamilies prepared = PrepareWithSelfMetrics(
      runner.Collect(), statistics, [&](const auto& scan, auto& writer) { self_metrics.Append(scan, writer); });
  const RenderedText rendered = RenderText(prepared.families, TextFormat::kPrometheus);
  for (const std::string& problem : prepared.problems) log.Error("metrics left out", {{"problem", problem}});
  if (std::fwrite(rendered.text.data(), 1, rendered.text.size(), out) != rendered.text.size() ||
      std::fflush(out) != 0) {
    log.Error("cannot write the metrics", {{"error", std::generic_category().message(errno)}});
    return false;
  }
  return true;
}

}  // namespace cow::exporter
