// Basic authentication (RFC 7617) against bcrypt hashes.
//
// bcrypt is slow on purpose: one check of cost 10 takes about 60 ms of CPU. To bound the CPU time of guessing, checks
// run one at a time. After a wrong password, clients that have failed before wait three times as long as that check
// took: their guesses take at most a quarter of one CPU. A client that has not failed goes before them and doesn't
// wait, so a flood of wrong passwords doesn't lock others out. Among equals the client goes first whose first request
// is the latest: repeating requests doesn't help a flood. Each client has at most one request that waits.
//
// Every check takes the same work for each user and for unknown names: one hash at each cost that any user's hash has.
// Verified credentials are cached.
//
// Any thread.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "exporter/http/client_key.h"

namespace cow::exporter {

struct Credentials {
  std::string user;
  std::string password;
};

// Parses the value of the header Authorization. Returns nothing for other schemes and malformed values.
std::optional<Credentials> ParseBasicAuthorization(std::string_view value);

class PasswordChecker {
 public:
  using Users = std::map<std::string, std::string>;  // bcrypt hash by name
  enum class Verdict { kGood, kWrong, kBusy };       // kBusy: other checks go first
  // True if `password` has the bcrypt hash `hash`, which contains its own cost and salt.
  using Compare = std::function<bool(const std::string& password, const std::string& hash)>;

  static constexpr size_t kMaxWaiting = 8;
  static constexpr size_t kMaxKnown = 1024;  // clients that are remembered

  explicit PasswordChecker(Compare compare = CompareWithCrypt);

  // Blocks for one check, and at most kMaxWait for its turn.
  Verdict Check(const Users& users, const Credentials& credentials, const ClientKey& client);
  // All waiting and later calls of Check return kBusy.
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;
  using Digest = std::array<unsigned char, 32>;
  using Rank = std::pair<bool, uint64_t>;  // has not failed, and the time of the first request
  struct Waiting {
    ClientKey client;
    Rank rank;
    bool dropped = false;
  };
  static constexpr std::chrono::seconds kMaxWait{5};
  static constexpr size_t kMaxVerified = 64;

  static bool CompareWithCrypt(const std::string& password, const std::string& hash);
  [[nodiscard]] Digest DigestOf(const Credentials& credentials, const std::string& hash) const;
  [[nodiscard]] bool IsVerified(const Digest& digest) const;
  // Waits until it is this client's turn. Returns false if the caller must give up.
  bool AwaitTurn(std::unique_lock<std::mutex>& lock, const ClientKey& client, const Digest& digest);
  [[nodiscard]] bool IsTurnOf(const Waiting& waiting) const;
  // Makes the calls that wait return if a better one needs the place.
  void DropSurplus();
  [[nodiscard]] bool Matches(const Users& users, const Credentials& credentials) const;
  // Remembers the client.
  Rank& RankOf(const ClientKey& client);

  const Compare compare_;
  Digest key_{};  // random HMAC key of this process
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  bool busy_ = false;
  Clock::time_point free_at_;    // for clients that have failed
  std::deque<Digest> verified_;  // of right passwords only, so wrong ones cannot evict them
  std::list<Waiting*> waiting_;
  std::map<ClientKey, Rank> known_;
  uint64_t clients_ = 0;
};

}  // namespace cow::exporter
