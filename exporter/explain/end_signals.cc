#include "exporter/explain/end_signals.h"

#include <cerrno>
#include <ctime>

namespace cow::exporter {

EndSignals::EndSignals() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
}

bool EndSignals::CameWithin(std::chrono::milliseconds time) const {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
  const timespec timeout{seconds.count(), std::chrono::nanoseconds(time - seconds).count()};
  int signal = 0;
  do {
    signal = sigtimedwait(&signals_, nullptr, &timeout);
  } while (signal < 0 && errno == EINTR);
  return signal > 0;
}

}  // namespace cow::exporter
