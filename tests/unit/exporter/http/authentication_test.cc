#include "exporter/http/authentication.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <random>
#include <string>
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

TEST(PasswordCheckerTest, RightAndWrong) {
  PasswordChecker checker;
  const PasswordChecker::Users users = {{"a", kHashOfSecret}};
  EXPECT_EQ(checker.Check(users, {"a", "secret"}), Verdict::kGood);
  EXPECT_EQ(checker.Check(users, {"a", "secret"}), Verdict::kGood);
  EXPECT_EQ(checker.Check(users, {"a", "Secret"}), Verdict::kWrong);
  EXPECT_EQ(checker.Check(users, {"a", ""}), Verdict::kWrong);
  EXPECT_EQ(checker.Check(users, {"b", "secret"}), Verdict::kWrong);
  EXPECT_EQ(checker.Check({}, {"a", "secret"}), Verdict::kWrong);
  // A cached verdict holds for one hash only.
  PasswordChecker::Users changed = users;
  changed["a"].back() = changed["a"].back() == 'x' ? 'y' : 'x';
  EXPECT_EQ(checker.Check(changed, {"a", "secret"}), Verdict::kWrong);
  EXPECT_EQ(checker.Check(users, {"a", "secret"}), Verdict::kGood);
}

// The cache distinguishes user and password with the same concatenation.
TEST(PasswordCheckerTest, AnotherSplitIsAnotherUser) {
  PasswordChecker checker;
  const PasswordChecker::Users users = {{"a", kHashOfSecret}, {"as", kHashOfSecret}};
  EXPECT_EQ(checker.Check(users, {"a", "secret"}), Verdict::kGood);
  EXPECT_EQ(checker.Check(users, {"as", "ecret"}), Verdict::kWrong);
}

TEST(PasswordCheckerTest, AWrongPasswordDelaysOthersButNotCachedOnes) {
  PasswordChecker checker;
  const PasswordChecker::Users users = {{"a", kHashOfSecret}};
  ASSERT_EQ(checker.Check(users, {"a", "secret"}), Verdict::kGood);
  std::vector<std::future<Verdict>> guesses;
  guesses.reserve(8);
  for (int i = 0; i < 8; ++i) {
    guesses.push_back(std::async(std::launch::async, [&] { return checker.Check(users, {"a", "wrong"}); }));
  }
  for (int i = 0; i < 100; ++i) {
    const auto start = Clock::now();
    EXPECT_EQ(checker.Check(users, {"a", "secret"}), Verdict::kGood);
    EXPECT_LT(Clock::now() - start, std::chrono::seconds{1});
  }
  for (auto& guess : guesses) EXPECT_EQ(guess.get(), Verdict::kWrong);
}

TEST(PasswordCheckerTest, StopEndsWaiting) {
  PasswordChecker checker;
  checker.Stop();
  EXPECT_EQ(checker.Check({{"a", kHashOfSecret}}, {"a", "secret"}), Verdict::kBusy);
}

}  // namespace
}  // namespace cow::exporter
