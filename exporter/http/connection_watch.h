// Ends connections whose client takes too long: to send a whole request, counted from the connection's start or from
// the answer before, or to take an answer. libmicrohttpd's own timeout counts from the last byte, so that a client
// which sends or takes one byte now and then would keep its place for ever.
//
// A connection is ended by shutdown(2): its thread then sees the end of the stream. Any thread.
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
    std::chrono::milliseconds request{30'000};  // for a request to come, with its TLS handshake and its body
    std::chrono::milliseconds answer{60'000};   // for an answer to be taken
  };

  // One connection; ends with it.
  class Entry {
   public:
    // Keeps a duplicate of the socket's descriptor.
    Entry(ConnectionWatch& watch, int fd);
    ~Entry();
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

    void AwaitRequest();
    void Work();  // the answer is being made: that is not the client's time
    void SendAnswer();

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
  std::condition_variable_any changed_;  // there is a connection
  std::list<Entry*> entries_;
  std::jthread thread_;
};

}  // namespace cow::exporter
