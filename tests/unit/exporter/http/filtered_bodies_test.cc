#include "exporter/http/filtered_bodies.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "exporter/http/metrics_page.h"

namespace cow::exporter {
namespace {

using Kind = CollectorFilter::Kind;

class FilteredBodiesTest : public testing::Test {
 protected:
  std::string Get(const std::shared_ptr<const void>& snapshot, const FilteredBodies::Key& key) {
    return *bodies_.Get(snapshot, key, [this] { return std::to_string(++made_); });
  }

  FilteredBodies bodies_;
  std::atomic<size_t> made_ = 0;
};

TEST_F(FilteredBodiesTest, MakesEachBodyOncePerSnapshot) {
  auto first = std::make_shared<const int>(1);
  const FilteredBodies::Key key{TextFormat::kPrometheus, Kind::kOnly, {"cow"}};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) threads.emplace_back([&] { EXPECT_EQ(Get(first, key), "1"); });
  }
  EXPECT_EQ(made_, 1U);
  EXPECT_EQ(Get(first, {TextFormat::kPrometheus, Kind::kExcept, {"cow"}}), "2");
  EXPECT_EQ(Get(first, {TextFormat::kOpenMetrics, Kind::kOnly, {"cow"}}), "3");
  EXPECT_EQ(Get(first, {TextFormat::kPrometheus, Kind::kOnly, {"cow", "thp"}}), "4");
  EXPECT_EQ(Get(first, key), "1");
  for (int i = 0; i < 100; ++i) {
    first = std::make_shared<const int>(1);  // often at the same address
    EXPECT_EQ(Get(first, key), std::to_string(5 + i));
    EXPECT_EQ(Get(first, key), std::to_string(5 + i));
  }
}

TEST_F(FilteredBodiesTest, KeepsALimitedNumber) {
  const auto snapshot = std::make_shared<const int>(1);
  const auto key = [](size_t i) {
    return FilteredBodies::Key{TextFormat::kPrometheus, Kind::kOnly, {std::to_string(i)}};
  };
  for (size_t i = 0; i <= FilteredBodies::kMaxBodies; ++i) Get(snapshot, key(i));
  EXPECT_EQ(made_, FilteredBodies::kMaxBodies + 1);
  Get(snapshot, key(1));
  EXPECT_EQ(made_, FilteredBodies::kMaxBodies + 1);
  Get(snapshot, key(0));
  EXPECT_EQ(made_, FilteredBodies::kMaxBodies + 2);
}

TEST_F(FilteredBodiesTest, AFailureIsNotKept) {
  const auto snapshot = std::make_shared<const int>(1);
  const FilteredBodies::Key key{TextFormat::kPrometheus, Kind::kOnly, {}};
  EXPECT_THROW(bodies_.Get(snapshot, key, []() -> std::string { throw std::runtime_error("x"); }), std::runtime_error);
  EXPECT_EQ(Get(snapshot, key), "1");
}

// Two scrapes with the same filter share one compressed body.
TEST(MetricsResponseTest, CompressesAFilterOnce) {
  FilteredBodies bodies;
  const auto snapshot = RenderSnapshot({}, {});
  HttpRequest request;
  request.headers["accept-encoding"] = "gzip";
  const CollectorFilter filter{Kind::kOnly, {"cow"}};
  const HttpResponse first = MetricsResponse(request, filter, snapshot, bodies);
  const HttpResponse second = MetricsResponse(request, filter, snapshot, bodies);
  EXPECT_EQ(first.body->data(), second.body->data());
  EXPECT_EQ(first.body->substr(0, 2), "\x1f\x8b");
}

}  // namespace
}  // namespace cow::exporter
