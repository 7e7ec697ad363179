#include "exporter/http/authentication.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <mutex>
#include <random>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace cow::exporter {
namespace {

using Clock = std::chrono::steady_clock;
using Verdict = PasswordChecker::Verdict;

TEST(ParseBasicAuthorizationTest, Decodes) {
  const auto parse = [](std::string_view value) { return ParseBasicAuthorization(value).value(); };
  EXPECT_EQ(parse("Basic dXNlcjpwYXNz").user, "user");
  EXPECT_EQ(parse("Basic dXNlcjpwYXNz").password, "pass");
  EXPECT_EQ(parse("basic   dTpwOnE= ").password, "p:q");
  EXPECT_EQ(parse("BASIC Og==").user, "");
  EXPECT_EQ(parse("Basic OnA").password, "p");
}

TEST(ParseBasicAuthorizationTest, RefusesTheRest) {
  for (const char* value : {"", "Basic", "Basic ", "Bearer dXNlcjpwYXNz", "Basic dXNlcg==", "Basic d=XN",
                            "Basic dXNlcjp\nw", "BasicdXNlcjpwYXNz", "Basic dTpwAA=="}) {  // the last one holds a NUL
    EXPECT_FALSE(ParseBasicAuthorization(value)) << value;
  }
}

TEST(ParseBasicAuthorizationTest, AcceptsAnyBytes) {
  std::mt19937 random(1);  // NOLINT: the same each time
  for (int i = 0; i < 20'000; ++i) {
    std::string text(random() % 30, ' ');
    for (char& c : text) c = static_cast<char>(random());
    ParseBasicAuthorization("Basic " + text);
    ParseBasicAuthorization(text);
  }
}

// Hash of "secret" at bcrypt's lowest cost: a check takes a millisecond.
constexpr const char* kHashOfSecret = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

ClientKey Client(uint64_t number) { return {ClientKey::Kind::kIpv4, number}; }
const ClientKey kClient = Client(0);

TEST(PasswordCheckerTest, RightAndWrong) {
  PasswordChecker checker;
  const PasswordChecker::Users users = {{"a", kHashOfSecret}};
  EXPECT_EQ(checker.Check(users, {"a", "secret"}, kClient), Verdict::kGood);
  EXPECT_EQ(checker.Check(users, {"a", "secret"}, kClient), Verdict::kGood);
  EXPECT_EQ(checker.Check(users, {"a", "Secret"}, kClient), Verdict::kWrong);
  EXPECT_EQ(checker.Check(users, {"a", ""}, kClient), Verdict::kWrong);
  EXPECT_EQ(checker.Check(users, {"b", "secret"}, kClient), Verdict::kWrong);
  EXPECT_EQ(checker.Check({}, {"a", "secret"}, kClient), Verdict::kWrong);
  // A cached verdict holds for one hash only.
  PasswordChecker::Users changed = users;
  changed["a"].back() = changed["a"].back() == 'x' ? 'y' : 'x';
  EXPECT_EQ(checker.Check(changed, {"a", "secret"}, kClient), Verdict::kWrong);
  EXPECT_EQ(checker.Check(users, {"a", "secret"}, kClient), Verdict::kGood);
}

// The cache distinguishes user and password with the same concatenation.
TEST(PasswordCheckerTest, AnotherSplitIsAnotherUser) {
  PasswordChecker checker;
  const PasswordChecker::Users users = {{"a", kHashOfSecret}, {"as", kHashOfSecret}};
  EXPECT_EQ(checker.Check(users, {"a", "secret"}, kClient), Verdict::kGood);
  EXPECT_EQ(checker.Check(users, {"as", "ecret"}, kClient), Verdict::kWrong);
}

TEST(PasswordCheckerTest, AWrongPasswordDelaysOthersButNotCachedOnes) {
  PasswordChecker checker;
  const PasswordChecker::Users users = {{"a", kHashOfSecret}};
  ASSERT_EQ(checker.Check(users, {"a", "secret"}, kClient), Verdict::kGood);
  std::vector<std::future<Verdict>> guesses;
  guesses.reserve(8);
  for (uint64_t i = 0; i < 8; ++i) {
    guesses.push_back(std::async(std::launch::async, [&, i] {
      return checker.Check(users, {"a", "wrong"}, Client(i));
    }));
  }
  for (int i = 0; i < 100; ++i) {
    const auto start = Clock::now();
    EXPECT_EQ(checker.Check(users, {"a", "secret"}, kClient), Verdict::kGood);
    EXPECT_LT(Clock::now() - start, std::chrono::seconds{1});
  }
  for (auto& guess : guesses) EXPECT_EQ(guess.get(), Verdict::kWrong);
}

TEST(PasswordCheckerTest, StopEndsWaiting) {
  PasswordChecker checker;
  checker.Stop();
  EXPECT_EQ(checker.Check({{"a", kHashOfSecret}}, {"a", "secret"}, kClient), Verdict::kBusy);
}

// Every check of a wrong password computes the same costs, whoever the user is.
TEST(PasswordCheckerTest, UnknownUsersCostTheSame) {
  std::multiset<std::string> costs;
  PasswordChecker checker([&costs](const std::string& /*password*/, const std::string& hash) {
    costs.insert(hash.substr(4, 2));
    return false;
  });
  const std::string rest = "$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
  const PasswordChecker::Users users = {{"a", "$2b$04" + rest}, {"b", "$2y$12" + rest}, {"c", "$2b$12" + rest}};
  for (const char* user : {"a", "b", "c", "nobody"}) {
    costs.clear();
    EXPECT_EQ(checker.Check(users, {user, "wrong"}, Client(0)), Verdict::kWrong);
    EXPECT_EQ(costs, (std::multiset<std::string>{"04", "12"})) << user;
  }
}

// Clients with wrong passwords from many addresses: a client that never failed goes before all of them.
TEST(PasswordCheckerTest, AFloodDoesNotLockOthersOut) {
  std::mutex mutex;
  std::vector<std::string> order;
  PasswordChecker checker([&](const std::string& password, const std::string& /*hash*/) {
    {
      const std::lock_guard lock(mutex);
      order.push_back(password);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
    return password == "right";
  });
  const PasswordChecker::Users users = {{"a", kHashOfSecret}};
  std::vector<std::jthread> flood;
  std::atomic<int> busy = 0;
  for (uint64_t i = 0; i < 32; ++i) {
    flood.emplace_back([&, i](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        if (checker.Check(users, {"a", "wrong"}, Client(i)) == Verdict::kBusy) {
          ++busy;
          std::this_thread::sleep_for(std::chrono::milliseconds{5});
        }
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds{500});
  size_t before = 0;
  {
    const std::lock_guard lock(mutex);
    before = order.size();
  }
  EXPECT_EQ(checker.Check(users, {"a", "right"}, Client(100)), Verdict::kGood);
  const std::lock_guard lock(mutex);
  const auto right = std::find(order.begin(), order.end(), "right") - order.begin();
  EXPECT_LE(static_cast<size_t>(right), before + 2);
  EXPECT_GT(busy, 0);
  checker.Stop();
}

// A second request of the same client does not wait.
TEST(PasswordCheckerTest, OneRequestPerClientWaits) {
  std::promise<void> go;
  auto gate = go.get_future().share();
  std::atomic<int> inside = 0;
  PasswordChecker checker([&, gate](const std::string& /*password*/, const std::string& /*hash*/) {
    ++inside;
    gate.wait();
    return false;
  });
  const PasswordChecker::Users users = {{"a", kHashOfSecret}};
  const auto guess = [&] { return checker.Check(users, {"a", "wrong"}, Client(1)); };
  auto first = std::async(std::launch::async, guess);
  while (inside == 0) std::this_thread::yield();
  auto second = std::async(std::launch::async, guess);
  Verdict third = Verdict::kWrong;
  // One of the two that did not begin is refused at once.
  auto another = std::async(std::launch::async, guess);
  if (second.wait_for(std::chrono::seconds{2}) == std::future_status::ready) {
    third = second.get();
    second = std::move(another);
  } else {
    third = another.get();
  }
  EXPECT_EQ(third, Verdict::kBusy);
  go.set_value();
  EXPECT_EQ(first.get(), Verdict::kWrong);
  EXPECT_EQ(second.get(), Verdict::kWrong);
}

}  // namespace
}  // namespace cow::exporter
