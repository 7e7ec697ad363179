#include "exporter/http/authentication.h"

#include <crypt.h>
#include <gnutls/crypto.h>
#include <strings.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>

#include "collectors/base/text.h"

namespace cow::exporter {
namespace {

using Clock = std::chrono::steady_clock;

// Padding is optional.
std::optional<std::string> DecodeBase64(std::string_view text) {
  // GnuTLS would skip blanks and stop at a hyphen.
  if (text.find_first_of("- \t\r\n") != std::string_view::npos) return std::nullopt;
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string padded(text);
  padded.append((4 - text.size() % 4) % 4, '=');
  const gnutls_datum_t encoded{reinterpret_cast<unsigned char*>(padded.data()), static_cast<unsigned>(padded.size())};
  gnutls_datum_t decoded{};
  if (gnutls_base64_decode2(&encoded, &decoded) != 0) return std::nullopt;
  const std::unique_ptr<unsigned char, decltype(gnutls_free)> owner(decoded.data, gnutls_free);
  return std::string(decoded.data, decoded.data + decoded.size);
}

// True if the password has this hash. A bcrypt hash contains its own cost and salt.
bool CheckHash(const std::string& password, const std::string& hash) {
  auto data = std::make_unique<crypt_data>();
  const char* computed = crypt_r(password.c_str(), hash.c_str(), data.get());
  const bool good = computed != nullptr && std::strlen(computed) == hash.size() &&
                    gnutls_memcmp(computed, hash.data(), hash.size()) == 0;
  explicit_bzero(data.get(), sizeof(*data));
  return good;
}

// A hash that no password has, with the highest cost of the users' hashes.
std::string DummyHash(const PasswordChecker::Users& users) {
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
  constexpr std::string_view kScheme = "basic";
  const std::string_view scheme = text::CutAt(value, ' ');
  if (scheme.size() != kScheme.size() || strncasecmp(scheme.data(), kScheme.data(), kScheme.size()) != 0) {
    return std::nullopt;
  }
  const auto decoded = DecodeBase64(text::Trim(value));
  if (!decoded) return std::nullopt;
  const size_t colon = decoded->find(':');
  if (colon == std::string::npos) return std::nullopt;
  // bcrypt ignores everything after a NUL.
  if (decoded->find('\0') != std::string::npos) return std::nullopt;
  return Credentials{decoded->substr(0, colon), decoded->substr(colon + 1)};
}

PasswordChecker::PasswordChecker() {
  if (gnutls_rnd(GNUTLS_RND_KEY, key_.data(), key_.size()) != 0) throw std::runtime_error("no random numbers");
}

PasswordChecker::Verdict PasswordChecker::Check(const Users& users, const Credentials& credentials) {
  const auto user = users.find(credentials.user);
  const std::string hash = user == users.end() ? DummyHash(users) : user->second;
  const Digest digest = DigestOf(credentials, hash);

  std::unique_lock lock(mutex_);
  if (IsVerified(digest)) return Verdict::kGood;
  const Clock::time_point give_up = Clock::now() + kMaxWait;
  while (!stopped_ && (busy_ || Clock::now() < free_at_)) {
    if (Clock::now() >= give_up) return Verdict::kBusy;
    changed_.wait_until(lock, busy_ ? give_up : std::min(give_up, free_at_));
    if (IsVerified(digest)) return Verdict::kGood;
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
    verified_.push_back(digest);
    if (verified_.size() > kMaxVerified) verified_.pop_front();
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

// Includes the stored hash, so a changed password invalidates its entry.
PasswordChecker::Digest PasswordChecker::DigestOf(const Credentials& credentials, const std::string& hash) const {
  std::string text = std::to_string(credentials.user.size()) + ":" + credentials.user + hash + credentials.password;
  Digest digest{};
  if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, key_.data(), key_.size(), text.data(), text.size(), digest.data()) != 0) {
    throw std::runtime_error("no HMAC");
  }
  explicit_bzero(text.data(), text.size());
  return digest;
}

bool PasswordChecker::IsVerified(const Digest& digest) const {
  return std::find(verified_.begin(), verified_.end(), digest) != verified_.end();
}

}  // namespace cow::exporter
