#include "exporter/scan/pass_runner.h"

#include <string>

namespace cow::exporter {

void LogNotices(PassRunner& runner, Log& log) {
  for (const collectors::ModeNotice& notice : runner.TakeNotices()) {
    if (!notice.collector.empty()) {
      log.Error("a collector failed, its metrics are missing",
                {{"collector", notice.collector}, {"reason", notice.reason}});
      continue;
    }
    if (!notice.feature.empty()) {
      log.Info("a feature is not available", {{"feature", notice.feature}, {"reason", notice.reason}});
      continue;
    }
    if (notice.intervals > 0) {
      log.Info(
          "the first look at a family takes several intervals, unread children count as sharing everything until then",
          {{"group", notice.group},
           {"pid", std::to_string(notice.pid)},
           {"intervals", std::to_string(static_cast<uint64_t>(notice.intervals))}});
      continue;
    }
    if (notice.mode.empty()) {
      log.Warn("cannot determine the group of a process",
               {{"group", notice.group}, {"pid", std::to_string(notice.pid)}, {"reason", notice.reason}});
      continue;
    }
    log.Warn("processes are not seen in full", {{"mode", notice.mode},
                                                {"groups", std::to_string(notice.groups)},
                                                {"group", notice.group},
                                                {"pid", std::to_string(notice.pid)},
                                                {"reason", notice.reason}});
  }
}

}  // namespace cow::exporter
