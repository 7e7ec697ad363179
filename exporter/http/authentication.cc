#include "exporter/http/authentication.h"

#include <crypt.h>
#include <gnutls/crypto.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>

namespace cow::exporter {
namespace {

using Clock = std::chrono::steady_clock;

std::optional<std::string> DecodeBase64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::string decoded;
  unsigned bits = 0;
  unsigned count = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = (bits << 6U | static_cast<unsigned>(digit)) & 0xffffU;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    decoded += static_cast<char>(bits >> count & 0xffU);
  }
  return decoded;
}

// In a time that does not depend on where they differ.
bool SameText(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

// Whether the password is the hash's. A hash is its own setting.
bool CheckHash(const std::string& password, const std::string& hash) {
  auto data = std::make_unique<crypt_data>();
  const char* computed = crypt_r(password.c_str(), hash.c_str(), data.get());
  const bool good = computed != nullptr && SameText(computed, hash);
  explicit_bzero(data.get(), sizeof(*data));
  return good;
}

// A hash that no password has, as dear as the dearest of the users'.
std::string HashOfNobody(const PasswordChecker::Users& users) {
  constexpr size_t kCostAt = 4;
  std::string cost = "10";
  for (const auto& [name, hash] : users) {
    const std::string here = hash.substr(kCostAt, 2);
    cost = &hash == &users.begin()->second ? here : std::max(cost, here);
  }
  return "$2b$" + cost + "$" + std::string(53, '.');
}

}  // namespace

std::optional<Credentials> ParseBasicAuthorization(std::string_view value) {
  constexpr std::string_view kScheme = "basic ";
  const auto same_letter = [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); };
  if (value.size() < kScheme.size() || !std::equal(kScheme.begin(), kScheme.end(), value.begin(), same_letter)) {
    return std::nullopt;
  }
  value.remove_prefix(kScheme.size());
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  while (!value.empty() && value.back() == ' ') value.remove_suffix(1);
  const auto decoded = DecodeBase64(value);
  if (!decoded) return std::nullopt;
  const size_t colon = decoded->find(':');
  if (colon == std::string::npos) return std::nullopt;
  // bcrypt's password ends at a NUL: what stands behind it would not count.
  if (decoded->find('\0') != std::string::npos) return std::nullopt;
  return Credentials{decoded->substr(0, colon), decoded->substr(colon + 1)};
}

PasswordChecker::PasswordChecker() {
  if (gnutls_rnd(GNUTLS_RND_KEY, key_.data(), key_.size()) != 0) throw std::runtime_error("no random numbers");
}

PasswordChecker::Verdict PasswordChecker::Check(const Users& users, const Credentials& credentials) {
  const auto user = users.find(credentials.user);
  const std::string hash = user == users.end() ? HashOfNobody(users) : user->second;
  const Digest digest = DigestOf(credentials, hash);

  std::unique_lock lock(mutex_);
  if (Remembered(digest)) return Verdict::kGood;
  const Clock::time_point give_up = Clock::now() + kMaxWait;
  while (!stopped_ && (busy_ || Clock::now() < free_at_)) {
    if (Clock::now() >= give_up) return Verdict::kBusy;
    changed_.wait_until(lock, busy_ ? give_up : std::min(give_up, free_at_));
    if (Remembered(digest)) return Verdict::kGood;
  }
  if (stopped_) return Verdict::kBusy;
  busy_ = true;
  lock.unlock();
  const Clock::time_point start = Clock::now();
  const bool good = CheckHash(credentials.password, hash) && user != users.end();
  const Clock::time_point end = Clock::now();
  lock.lock();
  busy_ = false;
  if (good) {
    remembered_.push_back(digest);
    if (remembered_.size() > kMaxRemembered) remembered_.pop_front();
  } else {
    free_at_ = end + 3 * (end - start);
  }
  changed_.notify_all();
  return good ? Verdict::kGood : Verdict::kWrong;
}

void PasswordChecker::Stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

// With the stored hash in it: a password that was changed is not remembered.
PasswordChecker::Digest PasswordChecker::DigestOf(const Credentials& credentials, const std::string& hash) const {
  std::string text = std::to_string(credentials.user.size()) + ":" + credentials.user + hash + credentials.password;
  Digest digest{};
  if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, key_.data(), key_.size(), text.data(), text.size(), digest.data()) != 0) {
    throw std::runtime_error("no HMAC");
  }
  explicit_bzero(text.data(), text.size());
  return digest;
}

bool PasswordChecker::Remembered(const Digest& digest) {
  return std::find(remembered_.begin(), remembered_.end(), digest) != remembered_.end();
}

}  // namespace cow::exporter
