// What systemd is told (sd_notify(3)): ready, reloading, stopping, and that it is alive. Where nobody listens, nothing
// is told and nothing fails.
//
// Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>

namespace cow::exporter {

class ServiceManager {
 public:
  ServiceManager() = default;
  ~ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

  // After start-up, and after each reload.
  void Ready();
  // Before a reload; Ready follows, whether it succeeded or not.
  void Reloading();
  void Stopping();

  // Where the service has a watchdog (WatchdogSec=), tells it that the program lives, twice in its time, as long as
  // `alive` says so. `alive` is handed the watchdog's time; it is called by a thread of this object, until it ends.
  void StartWatchdog(std::function<bool(std::chrono::microseconds within)> alive);

 private:
  std::mutex mutex_;
  std::condition_variable_any ended_;
  std::jthread watchdog_;
};

}  // namespace cow::exporter
