#include "exporter/metrics_text/negotiation.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace cow::exporter {
namespace {

constexpr const char* kPlain = "text/plain; version=0.0.4; charset=utf-8";
constexpr const char* kOpen = "application/openmetrics-text; version=1.0.0; charset=utf-8";
constexpr const char* kOldOpen = "application/openmetrics-text; version=0.0.1; charset=utf-8";

std::string Type(std::optional<std::string_view> accept) { return NegotiateFormat(accept).content_type; }

TEST(NegotiateFormatTest, DefaultsToPlainText) {
  for (const char* accept : {"", "*/*", "*", "text/plain", "text/*", "text/html,application/xhtml+xml,*/*;q=0.8",
                             "application/json", "application/*;q=0", ",,;;q=", "text/plain;version=0.0.4"}) {
    EXPECT_EQ(Type(accept), kPlain) << accept;
  }
  EXPECT_EQ(Type(std::nullopt), kPlain);
  EXPECT_EQ(NegotiateFormat("*/*").format, TextFormat::kPrometheus);
}

TEST(NegotiateFormatTest, OpenMetrics) {
  for (const char* accept :
       {"application/openmetrics-text", "application/openmetrics-text;version=1.0.0", "Application/OpenMetrics-Text",
        "application/openmetrics-text; version=\"1.0.0\"; charset=UTF-8", "application/*, text/*;q=0.9",
        "application/openmetrics-text, */*", "text/plain;q=0.5, application/openmetrics-text;q=0.501",
        "text/plain;q=0, */*;q=0.001", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"}) {
    EXPECT_EQ(Type(accept), kOpen) << accept;
  }
  EXPECT_EQ(NegotiateFormat("application/openmetrics-text").format, TextFormat::kOpenMetrics);
  EXPECT_EQ(Type("application/openmetrics-text;version=0.0.1"), kOldOpen);
  EXPECT_EQ(NegotiateFormat("application/openmetrics-text;version=0.0.1").format, TextFormat::kOpenMetrics);
}

TEST(NegotiateFormatTest, WhatPrometheusSends) {
  EXPECT_EQ(Type("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
                 "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
            kOpen);
  EXPECT_EQ(Type("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
                 "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
                 "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"),
            kOpen);
  EXPECT_EQ(Type("text/plain;version=0.0.4,*/*;q=0.1"), kPlain);
  EXPECT_EQ(Type("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.9,"
                 "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5"),
            kOldOpen);
}

TEST(NegotiateFormatTest, QualityAndOrder) {
  EXPECT_EQ(Type("application/openmetrics-text;q=0.4, text/plain;q=0.5"), kPlain);
  EXPECT_EQ(Type("text/plain, application/openmetrics-text"), kPlain);
  EXPECT_EQ(Type("application/openmetrics-text, text/plain"), kOpen);
  // The most specific range counts, not the one with the highest quality.
  EXPECT_EQ(Type("*/*;q=1, application/openmetrics-text;q=0.1, text/plain;q=0.2"), kPlain);
  EXPECT_EQ(
      Type("application/openmetrics-text;q=0.9, application/openmetrics-text;version=1.0.0;q=0, text/plain;q=0.1"),
      kOldOpen);
  // An unknown version does not match.
  EXPECT_EQ(Type("application/openmetrics-text;version=2.0.0, text/plain;q=0.1"), kPlain);
  // A malformed quality drops its range.
  for (const char* bad : {"2", "1.001", "-1", "0.1234", "x", "", ".5", "1.0000", "nan"}) {
    EXPECT_EQ(Type("application/openmetrics-text;q=" + std::string(bad) + ", text/plain;q=0.1"), kPlain) << bad;
  }
  EXPECT_EQ(Type("application/openmetrics-text;q=1., text/plain;q=0.999"), kOpen);
  // Quotes protect separators.
  EXPECT_EQ(Type("text/plain;x=\"a,application/openmetrics-text;q=1\\\",\";q=0.5"), kPlain);
}

TEST(NegotiateGzipTest, FollowsAcceptEncoding) {
  for (const char* yes : {"gzip", "GZIP", "x-gzip", "*", "deflate, gzip;q=0.1", "gzip;q=0.5, identity;q=0.5",
                          "br,*;q=0.2", "identity;q=0, gzip;q=0.001"}) {
    EXPECT_TRUE(NegotiateGzip(yes)) << yes;
  }
  for (const char* no : {"", "identity", "br", "gzip;q=0", "*;q=0", "gzip;q=0, *", "gzip;q=0.4, identity;q=0.5",
                         "gzipped", "gzip;q=x"}) {
    EXPECT_FALSE(NegotiateGzip(no)) << no;
  }
  EXPECT_FALSE(NegotiateGzip(std::nullopt));
}

TEST(NegotiationTest, AcceptsAnyBytes) {
  std::mt19937 random(1);  // NOLINT: the same each time
  const std::string alphabet = "*/;,=\"\\ \tq01.texplainopmrics-gzv";
  for (int i = 0; i < 20'000; ++i) {
    std::string text(random() % 40, ' ');
    for (char& c : text) c = i % 4 == 0 ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
    const std::string type = Type(text);
    EXPECT_TRUE(type == kPlain || type == kOpen || type == kOldOpen);
    NegotiateGzip(text);
  }
}

}  // namespace
}  // namespace cow::exporter
