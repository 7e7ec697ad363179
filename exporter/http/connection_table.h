// All open connections: admits new ones, and closes those that take too long or whose place another client needs.
//
// Deadlines. A client must send a whole request within a limit, counted from the connection's start or the previous
// response, and must take the response within another. Single bytes don't extend a limit. While three quarters of all
// places or of the client's own are taken, both limits are a quarter.
//
// Places. No client holds more than `per_client`; beyond that its new connection replaces one of its own. When all
// places are taken, a new connection replaces another one. A client's fair share is the number of places divided by the
// number of clients. The victim is the first of these that exists:
//   1. a waiting connection of a client above its share,
//   2. a connection of a client above its share that has been sending a response for `slow`,
//   3. a waiting connection of any client,
//   4. a sending connection of a client above its share.
// 1, 2 and 4 take it from the client with the most connections. A connection waits if the server has not received its
// whole request. Among waiting connections, those that never sent a request and are older than `slow` / 5 go first,
// then the idle ones, then the new ones, each the oldest first. Among sending connections the longest goes first. A
// connection whose request the server works on is never a victim; at most three quarters of the places may work at
// once, so that the rest stays replaceable.
//
// If no client has at least two connections more than the newcomer's, or if the newcomer replaces its own connection,
// its client may do so twice per second, and 4 times at once. The table refuses the rest, because each replacement
// costs a thread.
//
// Closes a connection with shutdown(2); the connection's thread then sees the end of the stream and frees the place.
// Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "exporter/http/client_key.h"
#include "exporter/http/rate_limiter.h"

namespace cow::exporter {

class ConnectionTable {
 public:
  using Clock = std::chrono::steady_clock;

  struct Limits {
    std::chrono::milliseconds request{30'000};   // to receive a request, with its TLS handshake and body
    std::chrono::milliseconds response{60'000};  // to send a response
    std::chrono::milliseconds slow{5'000};
    size_t connections = 512;
    size_t per_client = 128;
  };

  // The place of one connection. Destroy it before its descriptor is closed.
  class Entry {
   public:
    ~Entry();
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

    [[nodiscard]] const ClientKey& Client() const { return client_; }

    // Starts the deadline. Before this call nothing closes the connection.
    void Start();
    void AwaitRequest();
    // The server works on the request; no deadline runs. Returns false if too many connections do so already.
    bool Work();
    void SendResponse();

   private:
    friend class ConnectionTable;
    enum class State { kNew, kReading, kIdle, kWorking, kSending };  // kReading: has not sent its first request

    Entry(ConnectionTable& table, const ClientKey& client, int fd) : table_(table), client_(client), fd_(fd) {}
    void Set(State state);
    // The order of victims: connections of a lower rank go first.
    [[nodiscard]] int Rank(Clock::time_point now) const;
    [[nodiscard]] bool IsWaiting() const { return state_ == State::kReading || state_ == State::kIdle; }

    ConnectionTable& table_;
    const ClientKey client_;
    const int fd_;
    State state_ = State::kNew;
    bool closing_ = false;
    Clock::time_point since_;
    std::list<Entry*>::iterator place_;
  };

  explicit ConnectionTable(Limits limits);
  ~ConnectionTable();
  ConnectionTable(const ConnectionTable&) = delete;
  ConnectionTable& operator=(const ConnectionTable&) = delete;

  // Returns a place for the connection `fd`, or null if none can be freed. Waits at most kPatience for a victim's end.
  std::unique_ptr<Entry> Admit(const ClientKey& client, int fd);

 private:
  static constexpr std::chrono::milliseconds kPatience{500};
  static constexpr int kPressedDivisor = 4;
  static constexpr size_t kMaxRemembered = 1024;  // clients in replacements_

  void Run(const std::stop_token& stop);
  [[nodiscard]] bool IsPressed(const Entry& entry) const;
  [[nodiscard]] std::optional<std::chrono::milliseconds> LimitOf(const Entry& entry) const;
  [[nodiscard]] size_t OpenOf(const ClientKey& client) const;
  [[nodiscard]] Entry* OwnVictim(const ClientKey& client) const;
  [[nodiscard]] Entry* Victim(size_t share) const;
  // Closes a connection for one of `client` if none is free. Returns false if that is impossible.
  bool MakeRoom(const ClientKey& client);
  bool MayReplace(const ClientKey& client);
  // The fair share while `client` has a connection, at least 1.
  [[nodiscard]] size_t ShareWith(const ClientKey& client) const;
  // The order of victims in rules 1 to 4; empty: not a victim.
  [[nodiscard]] std::optional<int> RuleFor(const Entry& entry, size_t share, Clock::time_point now) const;
  void Close(Entry& entry);
  void Forget(const ClientKey& client);

  const Limits limits_;
  std::mutex mutex_;
  std::condition_variable_any added_;
  std::condition_variable freed_;
  std::list<Entry*> entries_;         // by age
  std::map<ClientKey, size_t> open_;  // entries by client, without the closing ones
  size_t open_count_ = 0;             // sum of open_
  size_t promised_ = 0;               // places of closing entries that calls of Admit wait for
  size_t working_ = 0;
  std::map<ClientKey, RateLimiter> replacements_;
  std::jthread thread_;
};

}  // namespace cow::exporter
