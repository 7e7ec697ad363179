// Closes connections of slow clients. A client must send a whole request within a limit, counted from the connection's
// start or the previous response, and must take the response within another. libmicrohttpd's own timeout restarts with
// each byte, so slow clients could hold connections open.
//
// Closes a connection with shutdown(2); its thread then sees the end of the stream. Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

namespace cow::exporter {

class ConnectionWatch {
 public:
  using Clock = std::chrono::steady_clock;

  struct Limits {
    std::chrono::milliseconds request{30'000};   // to receive a request, with its TLS handshake and body
    std::chrono::milliseconds response{60'000};  // to send a response
  };

  // The deadline of one connection. Destroy it when the connection closes.
  class Entry {
   public:
    // Keeps a duplicate of the socket's descriptor.
    Entry(ConnectionWatch& watch, int fd);
    ~Entry();
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

    void AwaitRequest();
    void SuspendDeadline();  // while the server makes the response
    void SendResponse();

   private:
    friend class ConnectionWatch;
    void Expire(std::optional<std::chrono::milliseconds> in);

    ConnectionWatch& watch_;
    int fd_;
    std::optional<Clock::time_point> deadline_;
    std::list<Entry*>::iterator place_;
  };

  explicit ConnectionWatch(Limits limits);
  ~ConnectionWatch();
  ConnectionWatch(const ConnectionWatch&) = delete;
  ConnectionWatch& operator=(const ConnectionWatch&) = delete;

 private:
  void Run(const std::stop_token& stop);

  const Limits limits_;
  std::mutex mutex_;
  std::condition_variable_any changed_;  // an entry was added
  std::list<Entry*> entries_;
  std::jthread thread_;
};

}  // namespace cow::exporter
