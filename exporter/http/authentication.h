// Basic authentication (RFC 7617) against bcrypt hashes.
//
// bcrypt is slow on purpose: one check of cost 10 takes some 60 ms of CPU. So that clients who only guess can't burn
// CPU, one check runs at a time, and after a wrong password the next one waits for three times as long as the check
// took: guessing takes a quarter of one CPU at most. Right answers are remembered, so who knows the password never
// waits twice. An unknown user costs the same time as a known one.
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

// From the value of the header Authorization; nothing if it is not of this scheme, or broken.
std::optional<Credentials> ParseBasicAuthorization(std::string_view value);

class PasswordChecker {
 public:
  using Users = std::map<std::string, std::string>;  // bcrypt hash by name
  enum class Verdict { kGood, kWrong, kBusy };       // busy: too many wait

  PasswordChecker();

  // Takes as long as a check, and up to `kMaxWait` for its turn.
  Verdict Check(const Users& users, const Credentials& credentials);
  // Ends the waiting of all who wait, as busy. Nothing is checked from then on.
  void Stop();

 private:
  using Digest = std::array<unsigned char, 32>;
  static constexpr std::chrono::seconds kMaxWait{5};
  static constexpr size_t kMaxRemembered = 64;

  [[nodiscard]] Digest DigestOf(const Credentials& credentials, const std::string& hash) const;
  bool Remembered(const Digest& digest);

  Digest key_{};  // random, of this process
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  bool busy_ = false;
  std::chrono::steady_clock::time_point free_at_;
  std::deque<Digest> remembered_;  // of right passwords only, so that nobody else can fill it
};

}  // namespace cow::exporter
