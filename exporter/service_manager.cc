#include "exporter/service_manager.h"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <ctime>
#include <exception>
#include <utility>

#include "collectors/base/utf8.h"

namespace cow::exporter {
namespace {

// Replaces control characters and invalid UTF-8. systemd ignores a status that is not UTF-8 and reads a new variable
// after each newline.
std::string OneLine(std::string_view text) {
  std::string line;
  while (!text.empty()) {
    const size_t length = Utf8CharacterLength(text);
    const bool is_control = length == 1 && (static_cast<unsigned char>(text.front()) < 0x20 || text.front() == 0x7f);
    if (length == 0 || is_control) {
      line += '?';
    } else {
      line += text.substr(0, length);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return line;
}

std::string ReadyText(std::string_view status) { return std::string("READY=1\nSTATUS=").append(OneLine(status)); }

// Sends `text` in its destructor, also when a reload throws: systemd waits for READY=1.
struct ReadyOnExit {
  ReadyOnExit() = default;
  ~ReadyOnExit() { sd_notify(0, text.c_str()); }
  ReadyOnExit(const ReadyOnExit&) = delete;
  ReadyOnExit& operator=(const ReadyOnExit&) = delete;

  std::string text = "READY=1";
};

std::string StatusOf(const std::optional<std::string>& problem) {
  if (!problem) return "configuration reloaded";
  const size_t end = problem->find('\n');
  std::string status = "reload failed, the previous configuration stays in force: " + problem->substr(0, end);
  const auto errors = std::count(problem->begin(), problem->end(), '\n');
  if (errors > 1) status += " (and " + std::to_string(errors - 1) + " more)";
  return status;
}

}  // namespace

ServiceManager::~ServiceManager() = default;

void ServiceManager::Ready(const std::string& status) { sd_notify(0, ReadyText(status).c_str()); }

std::optional<std::string> ServiceManager::Reload(const std::function<std::optional<std::string>()>& reload) {
  const std::lock_guard reloading(reloading_);
  // systemd matches this notification to its request by the time.
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1'000);
  ReadyOnExit ready;
  const std::jthread extends = ExtendTimeout();
  std::optional<std::string> problem = reload();
  ready.text = ReadyText(StatusOf(problem));
  return problem;
}

std::jthread ServiceManager::ExtendTimeout() const {
  try {
    return std::jthread([this](const std::stop_token& stop) {
      std::mutex mutex;
      std::condition_variable_any never;
      std::unique_lock lock(mutex);
      while (true) {
        never.wait_for(lock, stop, extension_.every, [] { return false; });
        if (stop.stop_requested()) return;
        sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRId64, int64_t{extension_.by.count()});
      }
    });
  } catch (const std::exception&) {  // no thread can start, for example at TasksMax=; reload without it
    return {};
  }
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
