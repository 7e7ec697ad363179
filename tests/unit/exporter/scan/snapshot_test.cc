#include "exporter/scan/snapshot.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "exporter/metrics_text/compression.h"

namespace cow::exporter {
namespace {

std::string Gunzip(const std::string& data) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
  std::string input = data;
  std::string out(1U << 20U, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

TEST(GzipTest, RoundTrip) {
  for (const std::string& text : {std::string(), std::string("a"), std::string(100'000, 'x')}) {
    EXPECT_EQ(Gunzip(Gzip(text)), text);
  }
  EXPECT_LT(Gzip(std::string(100'000, 'x')).size(), 2'000U);
}

prometheus::MetricFamily Family(const std::string& name) {
  return {name, "", prometheus::MetricType::Gauge, {prometheus::ClientMetric()}};
}

TEST(SnapshotTest, RendersEachTextOnce) {
  PreparedFamilies prepared = PrepareFamilies({{"cow", {Family("a"), Family("c")}}, {"thp", {Family("b")}}});
  const Snapshot snapshot(std::move(prepared.families), {"cow", "thp"});
  std::vector<std::jthread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&snapshot] {
      EXPECT_EQ(Gunzip(snapshot.GzipText(TextFormat::kOpenMetrics)), snapshot.Text(TextFormat::kOpenMetrics));
      EXPECT_EQ(snapshot.Text(TextFormat::kPrometheus),
                "# TYPE a gauge\na 0\n# TYPE b gauge\nb 0\n# TYPE c gauge\nc 0\n");
    });
  }
  threads.clear();
  EXPECT_EQ(&snapshot.Text(TextFormat::kPrometheus), &snapshot.Text(TextFormat::kPrometheus));
}

TEST(SnapshotTest, Filtered) {
  PreparedFamilies prepared =
      PrepareFamilies({{"cow", {Family("a"), Family("c")}}, {"thp", {Family("b")}}, {"", {Family("d")}}});
  const Snapshot snapshot(std::move(prepared.families), {"cow", "thp"});
  CollectorFilter filter;
  filter.kind = CollectorFilter::Kind::kOnly;
  filter.names = {"thp"};
  EXPECT_EQ(snapshot.Text(TextFormat::kPrometheus, filter), "# TYPE b gauge\nb 0\n# TYPE d gauge\nd 0\n");
  EXPECT_EQ(snapshot.Text(TextFormat::kOpenMetrics, filter), "# TYPE b gauge\nb 0\n# TYPE d gauge\nd 0\n# EOF\n");
  filter.kind = CollectorFilter::Kind::kExcept;
  EXPECT_EQ(snapshot.Text(TextFormat::kPrometheus, filter),
            "# TYPE a gauge\na 0\n# TYPE c gauge\nc 0\n# TYPE d gauge\nd 0\n");
}

TEST(SnapshotTest, EmptySnapshotHasNoText) {
  const Snapshot snapshot;
  EXPECT_EQ(snapshot.Text(TextFormat::kPrometheus), "");
  EXPECT_EQ(snapshot.Text(TextFormat::kOpenMetrics), "# EOF\n");
}

}  // namespace
}  // namespace cow::exporter
