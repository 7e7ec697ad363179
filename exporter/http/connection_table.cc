#include "exporter/http/connection_table.h"

#include <sys/socket.h>

#include <algorithm>
#include <new>
#include <tuple>

namespace cow::exporter {

ConnectionTable::Entry::~Entry() {
  const std::lock_guard lock(table_.mutex_);
  if (state_ == State::kWorking) --table_.working_;
  table_.entries_.erase(place_);
  if (!closing_) table_.Forget(client_);
  table_.freed_.notify_all();
}

void ConnectionTable::Entry::Start() {
  const std::lock_guard lock(table_.mutex_);
  Set(State::kReading);
}

void ConnectionTable::Entry::AwaitRequest() {
  const std::lock_guard lock(table_.mutex_);
  Set(State::kIdle);
}

bool ConnectionTable::Entry::Work() {
  const std::lock_guard lock(table_.mutex_);
  Set(State::kWorking);
  return table_.working_ <= std::max<size_t>(table_.limits_.connections * 3 / 4, 1);
}

void ConnectionTable::Entry::SendResponse() {
  const std::lock_guard lock(table_.mutex_);
  Set(State::kSending);
}

void ConnectionTable::Entry::Set(State state) {
  if (state_ == State::kWorking) --table_.working_;
  if (state == State::kWorking) ++table_.working_;
  state_ = state;
  since_ = Clock::now();
}

int ConnectionTable::Entry::Rank(Clock::time_point now) const {
  if (state_ == State::kReading) return now - since_ >= table_.limits_.slow / 5 ? 0 : 2;
  return state_ == State::kIdle ? 1 : 3;
}

ConnectionTable::ConnectionTable(Limits limits)
    : limits_(limits), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

ConnectionTable::~ConnectionTable() = default;

std::unique_ptr<ConnectionTable::Entry> ConnectionTable::Admit(const ClientKey& client, int fd) {
  std::unique_lock lock(mutex_);
  if (!MakeRoom(client)) return nullptr;
  ++promised_;
  const bool is_free = freed_.wait_for(lock, kPatience, [this] { return entries_.size() < limits_.connections; });
  --promised_;
  if (!is_free) return nullptr;
  // Nothing may throw once the entry exists: its destructor locks the mutex too.
  std::list<Entry*> place(1);
  const auto open = open_.try_emplace(client, 0).first;
  std::unique_ptr<Entry> entry(new (std::nothrow) Entry(*this, client, fd));
  if (!entry) {
    if (open->second == 0) open_.erase(open);
    return nullptr;
  }
  ++open->second;
  ++open_count_;
  entry->since_ = Clock::now();
  place.front() = entry.get();
  entry->place_ = place.begin();
  entries_.splice(entries_.end(), place);
  added_.notify_all();
  return entry;
}

bool ConnectionTable::MakeRoom(const ClientKey& client) {
  const size_t open = OpenOf(client);
  const bool is_at_limit = open >= limits_.per_client;
  const bool is_full = open_count_ + promised_ >= limits_.connections;
  if (!is_at_limit && !is_full) return true;
  const bool is_small =
      std::any_of(open_.begin(), open_.end(), [open](const auto& other) { return other.second >= open + 2; });
  if ((is_at_limit || !is_small) && !MayReplace(client)) return false;
  Entry* victim = is_at_limit ? OwnVictim(client) : Victim(ShareWith(client));
  if (victim == nullptr) return false;
  Close(*victim);
  return true;
}

bool ConnectionTable::MayReplace(const ClientKey& client) {
  constexpr config::RateLimit kLimit{std::chrono::milliseconds{500}, 4};
  if (replacements_.size() >= kMaxRemembered) replacements_.clear();
  RateLimiter& limiter = replacements_[client];
  limiter.Set(kLimit);  // has no effect on a limiter that has it
  return !limiter.Take();
}

size_t ConnectionTable::ShareWith(const ClientKey& client) const {
  const size_t clients = open_.size() + (open_.contains(client) ? 0 : 1);
  return std::max<size_t>(limits_.connections / clients, 1);
}

size_t ConnectionTable::OpenOf(const ClientKey& client) const {
  const auto found = open_.find(client);
  return found == open_.end() ? 0 : found->second;
}

ConnectionTable::Entry* ConnectionTable::OwnVictim(const ClientKey& client) const {
  const auto key = [now = Clock::now()](const Entry& entry) { return std::tuple(entry.Rank(now), entry.since_); };
  Entry* victim = nullptr;
  for (Entry* entry : entries_) {
    if (entry->closing_ || entry->client_ != client) continue;
    if (!entry->IsWaiting() && entry->state_ != Entry::State::kSending) continue;
    if (victim == nullptr || key(*entry) < key(*victim)) victim = entry;
  }
  return victim;
}

ConnectionTable::Entry* ConnectionTable::Victim(size_t share) const {
  const Clock::time_point now = Clock::now();
  using Key = std::tuple<int, size_t, int, Clock::time_point>;
  Entry* victim = nullptr;
  Key best{};
  for (Entry* entry : entries_) {
    const auto rule = RuleFor(*entry, share, now);
    if (!rule) continue;
    constexpr int kAnyClient = 3;
    const size_t others = *rule == kAnyClient ? 0 : open_count_ - OpenOf(entry->client_);
    const Key key{*rule, others, entry->Rank(now), entry->since_};
    if (victim == nullptr || key < best) {
      victim = entry;
      best = key;
    }
  }
  return victim;
}

std::optional<int> ConnectionTable::RuleFor(const Entry& entry, size_t share, Clock::time_point now) const {
  if (entry.closing_) return std::nullopt;
  const bool is_above = OpenOf(entry.client_) > share;
  if (entry.IsWaiting()) return is_above ? 1 : 3;
  if (entry.state_ != Entry::State::kSending || !is_above) return std::nullopt;
  return now - entry.since_ >= limits_.slow ? 2 : 4;
}

void ConnectionTable::Close(Entry& entry) {
  shutdown(entry.fd_, SHUT_RDWR);
  entry.closing_ = true;
  Forget(entry.client_);
}

void ConnectionTable::Forget(const ClientKey& client) {
  const auto found = open_.find(client);
  if (--found->second == 0) open_.erase(found);
  --open_count_;
}

bool ConnectionTable::IsPressed(const Entry& entry) const {
  return open_count_ * 4 >= limits_.connections * 3 || OpenOf(entry.client_) * 4 >= limits_.per_client * 3;
}

std::optional<std::chrono::milliseconds> ConnectionTable::LimitOf(const Entry& entry) const {
  const bool is_sending = entry.state_ == Entry::State::kSending;
  if (!entry.IsWaiting() && !is_sending) return std::nullopt;
  const std::chrono::milliseconds limit = is_sending ? limits_.response : limits_.request;
  return IsPressed(entry) ? limit / kPressedDivisor : limit;
}

// Checks all connections in each round, because they are few.
void ConnectionTable::Run(const std::stop_token& stop) {
  const auto round = std::clamp(std::min(limits_.request, limits_.response) / 8, std::chrono::milliseconds{10},
                                std::chrono::milliseconds{1000});
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    added_.wait(lock, stop, [this] { return !entries_.empty(); });
    added_.wait_for(lock, stop, round, [] { return false; });
    const Clock::time_point now = Clock::now();
    for (Entry* entry : entries_) {
      const auto limit = entry->closing_ ? std::nullopt : LimitOf(*entry);
      if (limit && now - entry->since_ >= *limit) Close(*entry);
    }
  }
}

}  // namespace cow::exporter
