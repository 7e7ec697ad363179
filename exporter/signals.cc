#include "exporter/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <utility>

namespace cow::exporter {

Signals::Signals(std::function<void()> on_forced) : on_forced_(std::move(on_forced)) {
  sigemptyset(&signals_);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals_, signal);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
}

void Signals::Start() {
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

Signals::~Signals() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  pthread_kill(thread_.native_handle(), SIGHUP);  // ends sigwait
}

int Signals::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return reload_ || end_ != 0; });
  if (end_ != 0) return end_;
  reload_ = false;
  return SIGHUP;
}

void Signals::Run(const std::stop_token& stop) {
  int signal = 0;
  while (sigwait(&signals_, &signal) == 0 && signal == SIGHUP && !stop.stop_requested()) {
    const std::lock_guard lock(mutex_);
    reload_ = true;
    changed_.notify_all();
  }
  std::unique_lock lock(mutex_);
  end_ = signal;
  changed_.notify_all();
  changed_.wait_for(lock, stop, kPatience, [] { return false; });
  if (stop.stop_requested()) return;
  on_forced_();
  _exit(0);
}

}  // namespace cow::exporter
