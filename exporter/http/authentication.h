// Basic authentication (RFC 7617) against bcrypt hashes.
//
// bcrypt is slow on purpose: one check of cost 10 takes about 60 ms of CPU. To bound the CPU time of guessing, checks
// run one at a time, and after a wrong password the next check waits three times as long as the last one took. Guessing
// therefore takes at most a quarter of one CPU. Verified credentials are cached. Unknown and known users cost the same
// time.
//
// Any thread.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

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
  enum class Verdict { kGood, kWrong, kBusy };       // kBusy: too many checks are waiting

  PasswordChecker();

  // Blocks for one check, and at most kMaxWait for its turn.
  Verdict Check(const Users& users, const Credentials& credentials);
  // All waiting and later calls of Check return kBusy.
  void Stop();

 private:
  using Digest = std::array<unsigned char, 32>;
  static constexpr std::chrono::seconds kMaxWait{5};
  static constexpr size_t kMaxVerified = 64;

  [[nodiscard]] Digest DigestOf(const Credentials& credentials, const std::string& hash) const;
  bool IsVerified(const Digest& digest) const;

  Digest key_{};  // random HMAC key of this process
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  bool busy_ = false;
  std::chrono::steady_clock::time_point free_at_;
  std::deque<Digest> verified_;  // of right passwords only, so wrong ones cannot evict them
};

}  // namespace cow::exporter
