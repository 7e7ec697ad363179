#include "exporter/channel/messages.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>

namespace cow::exporter {
namespace {

template <class Bytes>
std::string ToText(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(&bytes), sizeof(bytes)};
}

TEST(MessagesTest, ComeBackEqual) {
  const FrontMessage sent{FrontMessage::Type::kExplain, 7, 9, {12, true, 0x7f00}};
  const auto received = DecodeFrontMessage(ToText(Encode(sent)));
  ASSERT_TRUE(received);
  EXPECT_EQ(received->type, sent.type);
  EXPECT_EQ(received->id, 7U);
  EXPECT_EQ(received->number, 9U);
  EXPECT_EQ(received->query.pid, 12);
  EXPECT_TRUE(received->query.pages);
  EXPECT_EQ(received->query.mapping, 0x7f00U);
  EXPECT_EQ(DecodeFrontMessage(ToText(Encode(FrontMessage{FrontMessage::Type::kScrape, 1, 0, {}})))->query.mapping,
            std::nullopt);
  const auto reply = DecodeReaderMessage(ToText(Encode(ReaderMessage{ReaderMessage::Type::kReply, 3, 503})));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->type, ReaderMessage::Type::kReply);
  EXPECT_EQ(reply->id, 3U);
  EXPECT_EQ(reply->number, 503U);
}

TEST(MessagesTest, RefusesValuesOutOfRange) {
  const FrontBytes good = Encode(FrontMessage{FrontMessage::Type::kExplain, 1, 0, {1, false, std::nullopt}});
  ASSERT_TRUE(DecodeFrontMessage(ToText(good)));
  const auto refused = [&good](auto change) {
    FrontBytes bad = good;
    change(bad);
    return !DecodeFrontMessage(ToText(bad));
  };
  EXPECT_TRUE(refused([](FrontBytes& bytes) { bytes.type = 0; }));
  EXPECT_TRUE(refused([](FrontBytes& bytes) { bytes.type = 9; }));
  EXPECT_TRUE(refused([](FrontBytes& bytes) { bytes.pid = 0; }));
  EXPECT_TRUE(refused([](FrontBytes& bytes) { bytes.pid = -1; }));
  EXPECT_TRUE(refused([](FrontBytes& bytes) { bytes.pid = int64_t{1} << 32U; }));
  EXPECT_TRUE(refused([](FrontBytes& bytes) { bytes.pages = 2; }));
  EXPECT_TRUE(refused([](FrontBytes& bytes) { bytes.has_mapping = 2; }));
  EXPECT_TRUE(refused([](FrontBytes& bytes) { bytes.type = 5; }));  // a scrape has no process
  EXPECT_FALSE(DecodeFrontMessage(""));
  EXPECT_FALSE(DecodeFrontMessage(ToText(good) + "x"));
  EXPECT_FALSE(DecodeReaderMessage(ToText(good)));
  EXPECT_FALSE(DecodeReaderMessage(ToText(ReaderBytes{8, 0, 0})));
}

// What is accepted encodes to the same bytes, so no two byte sequences mean the same.
TEST(MessagesTest, AnyBytes) {
  std::mt19937 random(1);
  size_t accepted = 0;
  for (int i = 0; i < 200'000; ++i) {
    FrontBytes bytes{};
    bytes.type = static_cast<uint32_t>(random() % 12);
    bytes.id = static_cast<uint32_t>(random());
    bytes.number = random();
    bytes.pid = static_cast<int64_t>(random() % 4) - 1;
    bytes.has_mapping = static_cast<uint32_t>(random() % 3);
    bytes.mapping = bytes.has_mapping == 0 ? 0 : random();
    bytes.pages = static_cast<uint32_t>(random() % 3);
    const auto message = DecodeFrontMessage(ToText(bytes));
    if (!message) continue;
    ++accepted;
    const FrontBytes again = Encode(*message);
    ASSERT_EQ(ToText(again), ToText(bytes));
  }
  EXPECT_GT(accepted, 1'000U);
}

}  // namespace
}  // namespace cow::exporter
