#include "exporter/service_manager.h"

#include <systemd/sd-daemon.h>

#include <cinttypes>
#include <cstdint>
#include <utility>

namespace cow::exporter {

ServiceManager::~ServiceManager() = default;

void ServiceManager::Ready() { sd_notify(0, "READY=1"); }

void ServiceManager::Reloading() {
  // With the time, so that systemd can tell which signal it answers.
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const int64_t microseconds = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, microseconds);
}

void ServiceManager::Stopping() { sd_notify(0, "STOPPING=1"); }

void ServiceManager::StartWatchdog(std::function<bool(std::chrono::microseconds)> alive) {
  uint64_t microseconds = 0;
  if (sd_watchdog_enabled(0, &microseconds) <= 0) return;
  const std::chrono::microseconds time(microseconds);
  watchdog_ = std::jthread([this, time, alive = std::move(alive)](const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      if (alive(time)) sd_notify(0, "WATCHDOG=1");
      ended_.wait_for(lock, stop, time / 2, [] { return false; });
    }
  });
}

}  // namespace cow::exporter
