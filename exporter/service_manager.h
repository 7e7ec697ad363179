// Notifies systemd (sd_notify(3)) of readiness, reloads and their outcome, the end, and the watchdog. Does nothing
// without a service manager.
//
// Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

namespace cow::exporter {

class ServiceManager {
 public:
  // systemd gives up on a reload that is silent for TimeoutStartSec=. During a reload, asks for `by` more time each
  // `every`.
  struct Extension {
    std::chrono::milliseconds every{1'000};
    std::chrono::microseconds by = std::chrono::seconds{15};
  };

  ServiceManager() : ServiceManager(Extension{}) {}
  explicit ServiceManager(Extension extension) : extension_(extension) {}
  ~ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

  // Call after start-up. `status` is one line for people.
  void Ready(const std::string& status);
  // Runs `reload` between RELOADING=1 and READY=1. Reloads run one at a time, because systemd would take the READY=1 of
  // one for the end of another. Returns what `reload` returns: its errors, one per line. Sends READY=1 also if `reload`
  // throws.
  std::optional<std::string> Reload(const std::function<std::optional<std::string>()>& reload);
  void Stopping();

  // If the service has a watchdog (WatchdogSec=), starts a thread that notifies it twice per period while
  // `alive(period)` is true.
  void StartWatchdog(std::function<bool(std::chrono::microseconds within)> alive);

 private:
  // Starts a thread that extends systemd's timeout until it is stopped. Returns none if no thread can start.
  [[nodiscard]] std::jthread ExtendTimeout() const;

  const Extension extension_;
  std::mutex reloading_;
  std::mutex mutex_;
  std::condition_variable_any ended_;
  std::jthread watchdog_;
};

}  // namespace cow::exporter
