#include "exporter/log/line_writer.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace cow::exporter {
namespace {

// Waits as long as it takes. False if the line is lost.
bool WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(fd, text.data(), text.size());
    if (count > 0) {
      text.remove_prefix(static_cast<size_t>(count));
    } else if (count < 0 && errno == EAGAIN) {  // another program has set O_NONBLOCK
      pollfd writable{fd, POLLOUT, 0};
      poll(&writable, 1, -1);
    } else if (count == 0 || errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace

struct LineWriter::State {
  struct Line {
    std::string text;
    uint64_t reported = 0;  // dropped lines that it reports, 0: an ordinary line
  };

  State(int fd_in, Report report_in) : fd(fd_in), report(std::move(report_in)) {}

  // Call with the mutex held.
  void Push(Line line) {
    queued_bytes += line.text.size();
    lines.push_back(std::move(line));
    changed.notify_all();
  }
  void PushReport() {
    if (unreported != 0) Push({report(unreported), std::exchange(unreported, 0)});
  }
  void PushReportIfMemory() {
    try {
      PushReport();
    } catch (const std::bad_alloc&) {  // the next line tries again
    }
  }
  void Drop() {
    ++unreported;
    ++dropped;
  }

  void Add(std::string text) {
    const std::lock_guard lock(mutex);
    if (queued_bytes + text.size() > kMaxQueuedBytes) return Drop();
    PushReport();
    Push({std::move(text), 0});
  }

  void Run() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return stop || !lines.empty(); });
      if (lines.empty()) return;
      const Line line = std::move(lines.front());
      lines.pop_front();
      lock.unlock();
      const bool written = WriteAll(fd, line.text);
      lock.lock();
      queued_bytes -= line.text.size();
      if (!written && line.reported == 0) Drop();
      if (!written) unreported += line.reported;
      if (written && lines.empty()) PushReportIfMemory();
      changed.notify_all();
    }
  }

  bool WaitUntilWritten() {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, kPatience, [this] { return queued_bytes == 0; });
  }

  const int fd;
  const Report report;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Line> lines;
  size_t queued_bytes = 0;  // including the line that is being written
  uint64_t unreported = 0;  // dropped lines that no line has reported
  std::atomic<uint64_t> dropped = 0;
  bool stop = false;
};

LineWriter::LineWriter(int fd, Report report) : state_(std::make_shared<State>(fd, std::move(report))) {}

LineWriter::~LineWriter() {
  if (started_) state_->WaitUntilWritten();
  const std::lock_guard lock(state_->mutex);
  state_->lines.clear();
  state_->stop = true;
  state_->changed.notify_all();
}

uint64_t LineWriter::DroppedLines() const { return state_->dropped; }

void LineWriter::sink_it_(const spdlog::details::log_msg& message) {
  if (!started_) Start();
  std::string line(message.payload.data(), message.payload.size());
  line += '\n';
  state_->Add(std::move(line));
}

void LineWriter::flush_() {
  if (started_) state_->WaitUntilWritten();
}

void LineWriter::Start() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // the threads of the program handle the signals
  std::exception_ptr failure;
  try {
    std::thread([state = state_] { state->Run(); }).detach();
    started_ = true;
  } catch (const std::exception&) {
    failure = std::current_exception();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (failure) std::rethrow_exception(failure);
}

}  // namespace cow::exporter
