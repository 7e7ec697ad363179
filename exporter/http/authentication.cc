#include "exporter/http/authentication.h"

#include <crypt.h>
#include <gnutls/crypto.h>
#include <strings.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <stdexcept>
#include <utility>

#include "collectors/base/text.h"

namespace cow::exporter {
namespace {

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

std::string CostOf(const std::string& hash) {
  constexpr size_t kCostAt = 4;
  return hash.substr(kCostAt, 2);
}

// A hash that no password has.
std::string DummyHash(const std::string& cost) { return "$2b$" + cost + "$" + std::string(53, '.'); }

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

PasswordChecker::PasswordChecker(Compare compare) : compare_(std::move(compare)) {
  if (gnutls_rnd(GNUTLS_RND_KEY, key_.data(), key_.size()) != 0) throw std::runtime_error("no random numbers");
}

PasswordChecker::Verdict PasswordChecker::Check(const Users& users, const Credentials& credentials,
                                                const ClientKey& client) {
  const auto user = users.find(credentials.user);
  const Digest digest = DigestOf(credentials, user == users.end() ? "" : user->second);

  std::unique_lock lock(mutex_);
  if (IsVerified(digest)) return Verdict::kGood;
  if (!AwaitTurn(lock, client, digest)) return IsVerified(digest) ? Verdict::kGood : Verdict::kBusy;
  busy_ = true;
  lock.unlock();
  const Clock::time_point start = Clock::now();
  const bool good = Matches(users, credentials);
  const Clock::time_point end = Clock::now();
  lock.lock();
  busy_ = false;
  if (good) {
    verified_.push_back(digest);
    if (verified_.size() > kMaxVerified) verified_.pop_front();
  } else {
    RankOf(client).first = false;
    free_at_ = end + 3 * (end - start);
  }
  changed_.notify_all();
  return good ? Verdict::kGood : Verdict::kWrong;
}

bool PasswordChecker::AwaitTurn(std::unique_lock<std::mutex>& lock, const ClientKey& client, const Digest& digest) {
  const bool waits = std::any_of(waiting_.begin(), waiting_.end(),
                                 [&client](const Waiting* other) { return other->client == client; });
  if (waits || stopped_) return false;
  Waiting own{client, RankOf(client)};
  const auto place = waiting_.insert(waiting_.end(), &own);
  DropSurplus();
  const Clock::time_point give_up = Clock::now() + kMaxWait;
  bool is_turn = false;
  while (!own.dropped && !stopped_ && !IsVerified(digest)) {
    is_turn = IsTurnOf(own);
    const Clock::time_point now = Clock::now();
    if (is_turn || now >= give_up) break;
    changed_.wait_until(lock, !busy_ && now < free_at_ ? std::min(give_up, free_at_) : give_up);
  }
  waiting_.erase(place);
  changed_.notify_all();
  return is_turn;
}

bool PasswordChecker::IsTurnOf(const Waiting& waiting) const {
  if (busy_ || (!waiting.rank.first && Clock::now() < free_at_)) return false;
  return std::none_of(waiting_.begin(), waiting_.end(),
                      [&waiting](const Waiting* other) { return !other->dropped && other->rank > waiting.rank; });
}

void PasswordChecker::DropSurplus() {
  Waiting* last = nullptr;
  size_t count = 0;
  for (Waiting* each : waiting_) {
    if (each->dropped) continue;
    ++count;
    if (last == nullptr || each->rank < last->rank) last = each;
  }
  if (count <= kMaxWaiting) return;
  last->dropped = true;
  changed_.notify_all();
}

bool PasswordChecker::Matches(const Users& users, const Credentials& credentials) const {
  const auto user = users.find(credentials.user);
  const std::string own_cost = user == users.end() ? "" : CostOf(user->second);
  std::set<std::string> costs;
  for (const auto& [name, hash] : users) costs.insert(CostOf(hash));
  bool good = false;
  for (const std::string& cost : costs) {
    const bool is_own = cost == own_cost;
    const bool matches = compare_(credentials.password, is_own ? user->second : DummyHash(cost));
    good = good || (is_own && matches);
  }
  return good;
}

bool PasswordChecker::CompareWithCrypt(const std::string& password, const std::string& hash) {
  auto data = std::make_unique<crypt_data>();
  const char* computed = crypt_r(password.c_str(), hash.c_str(), data.get());
  const bool good = computed != nullptr && std::strlen(computed) == hash.size() &&
                    gnutls_memcmp(computed, hash.data(), hash.size()) == 0;
  explicit_bzero(data.get(), sizeof(*data));
  return good;
}

PasswordChecker::Rank& PasswordChecker::RankOf(const ClientKey& client) {
  const auto found = known_.find(client);
  if (found != known_.end()) return found->second;
  if (known_.size() >= kMaxKnown) {
    known_.erase(std::min_element(known_.begin(), known_.end(),
                                  [](const auto& a, const auto& b) { return a.second.second < b.second.second; }));
  }
  return known_[client] = Rank(true, ++clients_);
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
