// What systemd is told (sd_notify(3)): ready, reloading, stopping, what the last reload came to, and that it is alive.
// Where nobody listens, nothing is told and nothing fails.
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
  // While a reload lasts, systemd is asked so often for so much more time: it gives up on one that is silent for
  // TimeoutStartSec=.
  struct Extension {
    std::chrono::milliseconds every{1'000};
    std::chrono::microseconds by = std::chrono::seconds{15};
  };

  ServiceManager() : ServiceManager(Extension{}) {}
  explicit ServiceManager(Extension extension) : extension_(extension) {}
  ~ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

  // After start-up. The status is for people, one line.
  void Ready(const std::string& status);
  // Tells of a reload, before and after. Others wait meanwhile: between one RELOADING=1 and its READY=1 there is no
  // other, which systemd would take for the end of this one. Returns what `reload` returns: what is wrong, one line
  // each, if anything is. Throws what `reload` throws, after READY=1.
  std::optional<std::string> Reload(const std::function<std::optional<std::string>()>& reload);
  void Stopping();

  // Where the service has a watchdog (WatchdogSec=), tells it that the program lives, twice in its time, as long as
  // `alive` says so. `alive` is handed the watchdog's time; it is called by a thread of this object, until it ends.
  void StartWatchdog(std::function<bool(std::chrono::microseconds within)> alive);

 private:
  // A thread that does until it ends; none if none can be had.
  [[nodiscard]] std::jthread AskForTime() const;

  const Extension extension_;
  std::mutex reloading_;
  std::mutex mutex_;
  std::condition_variable_any ended_;
  std::jthread watchdog_;
};

}  // namespace cow::exporter
