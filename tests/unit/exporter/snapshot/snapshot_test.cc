#include "exporter/snapshot/snapshot.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "exporter/metrics_text/compression.h"
#include "exporter/snapshot/sealed_file.h"
#include "exporter/snapshot/snapshot_file.h"

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

std::shared_ptr<const Snapshot> MakeSnapshot() {
  PreparedFamilies prepared =
      PrepareFamilies({{"cow", {Family("a"), Family("c")}}, {"thp", {Family("b")}}, {"", {Family("d")}}});
  SnapshotIndex index;
  index.collectors = {"cow", "thp"};
  index.groups = {{"<g>", 3, std::nullopt, 1.5}, {"\xff", std::nullopt, 4096, std::nullopt}};
  index.ready = true;
  return RenderSnapshot(prepared.families, std::move(index));
}

constexpr std::string_view kAll =
    "# TYPE a gauge\na 0\n# TYPE b gauge\nb 0\n# TYPE c gauge\nc 0\n# TYPE d gauge\nd 0\n";

TEST(SnapshotTest, CompressesEachTextOnce) {
  const auto snapshot = MakeSnapshot();
  std::vector<std::jthread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&snapshot] {
      EXPECT_EQ(Gunzip(snapshot->GzipText(TextFormat::kOpenMetrics)), snapshot->Text(TextFormat::kOpenMetrics));
      EXPECT_EQ(snapshot->Text(TextFormat::kPrometheus), kAll);
    });
  }
  threads.clear();
  EXPECT_EQ(&snapshot->GzipText(TextFormat::kPrometheus), &snapshot->GzipText(TextFormat::kPrometheus));
}

TEST(SnapshotTest, Filtered) {
  const auto snapshot = MakeSnapshot();
  CollectorFilter filter;
  filter.kind = CollectorFilter::Kind::kOnly;
  filter.names = {"thp"};
  EXPECT_EQ(snapshot->Text(TextFormat::kPrometheus, filter), "# TYPE b gauge\nb 0\n# TYPE d gauge\nd 0\n");
  EXPECT_EQ(snapshot->Text(TextFormat::kOpenMetrics, filter), "# TYPE b gauge\nb 0\n# TYPE d gauge\nd 0\n# EOF\n");
  filter.kind = CollectorFilter::Kind::kExcept;
  EXPECT_EQ(snapshot->Text(TextFormat::kPrometheus, filter),
            "# TYPE a gauge\na 0\n# TYPE c gauge\nc 0\n# TYPE d gauge\nd 0\n");
}

TEST(SnapshotTest, WithoutFamiliesHasNoText) {
  const auto snapshot = RenderSnapshot({}, {});
  EXPECT_EQ(snapshot->Text(TextFormat::kPrometheus), "");
  EXPECT_EQ(snapshot->Text(TextFormat::kOpenMetrics), "# EOF\n");
}

TEST(SnapshotFileTest, ComesBackEqual) {
  const auto written = MakeSnapshot();
  std::shared_ptr<const Snapshot> read;
  {
    const procfs::FileDescriptor file = WriteSnapshot(*written);
    read = ReadSnapshot(file.get());
  }
  for (const TextFormat format : {TextFormat::kPrometheus, TextFormat::kOpenMetrics}) {
    EXPECT_EQ(read->Text(format), written->Text(format));
  }
  CollectorFilter filter;
  filter.kind = CollectorFilter::Kind::kOnly;
  filter.names = {"cow"};
  EXPECT_EQ(read->Text(TextFormat::kOpenMetrics, filter), written->Text(TextFormat::kOpenMetrics, filter));
  EXPECT_EQ(read->Index().collectors, written->Index().collectors);
  EXPECT_TRUE(read->Index().ready);
  EXPECT_FALSE(read->Index().on_demand);
  ASSERT_EQ(read->Index().groups.size(), 2U);
  EXPECT_EQ(read->Index().groups[0].group, "<g>");
  EXPECT_EQ(read->Index().groups[0].processes, 3);
  EXPECT_EQ(read->Index().groups[0].exposure_bytes, std::nullopt);
  EXPECT_EQ(read->Index().groups[0].breaks_per_second, 1.5);
  EXPECT_EQ(read->Index().groups[1].group, "\xff");
}

// Each prefix of the file, and each file with one byte changed in its index, is an error or a snapshot; none crashes.
TEST(SnapshotFileTest, MalformedFilesAreErrors) {
  const procfs::FileDescriptor file = WriteSnapshot(*MakeSnapshot());
  const SealedFileMapping mapping(file.get());
  const std::string good(mapping.Bytes());
  const auto read = [](std::string_view bytes) {
    const procfs::FileDescriptor other = MakeSealedFile({&bytes, 1});
    try {
      const auto snapshot = ReadSnapshot(other.get());
      CollectorFilter filter;
      filter.kind = CollectorFilter::Kind::kExcept;
      EXPECT_LE(snapshot->Text(TextFormat::kOpenMetrics, filter).size(), 1'000U);
      return true;
    } catch (const std::exception&) {
      return false;
    }
  };
  for (size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(read(good.substr(0, size))) << size;
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    read(bad);
  }
}

TEST(SealedFileTest, RefusesFilesThatCanChange) {
  const procfs::FileDescriptor file(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_THROW(SealedFileMapping(file.get()), std::runtime_error);
  EXPECT_THROW(SealedFileMapping(-1), std::runtime_error);
  const std::string_view text = "text";
  const procfs::FileDescriptor sealed = MakeSealedFile({&text, 1});
  EXPECT_EQ(SealedFileMapping(sealed.get()).Bytes(), text);
  EXPECT_EQ(write(sealed.get(), "x", 1), -1);
  EXPECT_EQ(ftruncate(sealed.get(), 0), -1);
}

}  // namespace
}  // namespace cow::exporter
