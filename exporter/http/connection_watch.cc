#include "exporter/http/connection_watch.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

namespace cow::exporter {

ConnectionWatch::Entry::Entry(ConnectionWatch& watch, int fd) : watch_(watch), fd_(fcntl(fd, F_DUPFD_CLOEXEC, 0)) {
  const std::lock_guard lock(watch_.mutex_);
  deadline_ = Clock::now() + watch_.limits_.request;
  place_ = watch_.entries_.insert(watch_.entries_.end(), this);
  watch_.changed_.notify_all();
}

ConnectionWatch::Entry::~Entry() {
  const std::lock_guard lock(watch_.mutex_);
  watch_.entries_.erase(place_);
  if (fd_ >= 0) close(fd_);
}

void ConnectionWatch::Entry::AwaitRequest() { Expire(watch_.limits_.request); }
void ConnectionWatch::Entry::SuspendDeadline() { Expire(std::nullopt); }
void ConnectionWatch::Entry::SendResponse() { Expire(watch_.limits_.response); }

void ConnectionWatch::Entry::Expire(std::optional<std::chrono::milliseconds> in) {
  const std::lock_guard lock(watch_.mutex_);
  deadline_ = in ? std::optional(Clock::now() + *in) : std::nullopt;
}

ConnectionWatch::ConnectionWatch(Limits limits)
    : limits_(limits), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

ConnectionWatch::~ConnectionWatch() = default;

// Checks all connections in each round, because they are few.
void ConnectionWatch::Run(const std::stop_token& stop) {
  const auto round = std::clamp(std::min(limits_.request, limits_.response) / 8, std::chrono::milliseconds{10},
                                std::chrono::milliseconds{1000});
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    changed_.wait(lock, stop, [this] { return !entries_.empty(); });
    changed_.wait_for(lock, stop, round, [] { return false; });
    const Clock::time_point now = Clock::now();
    for (Entry* entry : entries_) {
      if (!entry->deadline_ || now < *entry->deadline_) continue;
      shutdown(entry->fd_, SHUT_RDWR);
      entry->deadline_.reset();
    }
  }
}

}  // namespace cow::exporter
