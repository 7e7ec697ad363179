#include "exporter/http/request_check.h"

#include <gtest/gtest.h>

#include "exporter/http/host_name.h"

namespace cow::exporter {
namespace {

TEST(ParseHostTest, AcceptsNamesAndAddresses) {
  EXPECT_EQ(ParseHost("Prometheus.Example:10066"), (HostPort{"prometheus.example", "10066", false}));
  EXPECT_EQ(ParseHost("x"), (HostPort{"x", "", false}));
  EXPECT_EQ(ParseHost("127.0.0.1:1"), (HostPort{"127.0.0.1", "1", true}));
  EXPECT_EQ(ParseHost("[2001:DB8::1]:443"), (HostPort{"2001:db8::1", "443", true}));
  for (const char* text : {"", ":80", "a b", "a/b", "a@b", "[::1", "[x]", "::1", "a:b", "a:123456", "[::1]80", "a,b"}) {
    EXPECT_FALSE(ParseHost(text)) << text;
  }
}

TEST(ParseHostTest, Origins) {
  EXPECT_EQ(ParseOrigin("http://a"), (HostPort{"a", "80", false}));
  EXPECT_EQ(ParseOrigin("https://a/path"), (HostPort{"a", "443", false}));
  EXPECT_EQ(ParseOrigin("https://a:1/path"), (HostPort{"a", "1", false}));
  for (const char* text : {"", "null", "a", "ftp://a", "http://", "http:///x"}) EXPECT_FALSE(ParseOrigin(text)) << text;
}

TEST(CheckHeadersTest, AcceptsCommonRequests) {
  EXPECT_FALSE(CheckHeaders("HTTP/1.1", {{"Host", "x"}}));
  EXPECT_FALSE(CheckHeaders("HTTP/1.0", {}));
  EXPECT_FALSE(CheckHeaders("HTTP/1.1", {{"host", " x:1 "}, {"Content-Length", "1"}, {"X", "a\tb\xff"}, {"Y", ""}}));
  EXPECT_FALSE(CheckHeaders("HTTP/1.1", {{"Host", "x"}, {"transfer-encoding", "Chunked"}}));
}

TEST(CheckHeadersTest, RefusesAmbiguousRequests) {
  const std::pair<std::string_view, std::string_view> host{"Host", "x"};
  const std::vector<HeaderList> refused = {
      {},
      {host, host},
      {{"Host", ""}},
      {{"Host", "a b"}},
      {{"Host", "a, b"}},
      {host, {"Content-Length", "1"}, {"content-length", "1"}},
      {host, {"Content-Length", "1"}, {"Transfer-Encoding", "chunked"}},
      {host, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}},
      {host, {"Transfer-Encoding", "gzip, chunked"}},
      {host, {"Content-Length ", "1"}},
      {host, {"", "1"}},
      {host, {"X", "a\rb"}},
  };
  for (const HeaderList& headers : refused) {
    EXPECT_TRUE(CheckHeaders("HTTP/1.1", headers)) << (headers.empty() ? "none" : headers.back().first);
  }
  EXPECT_TRUE(CheckHeaders("HTTP/1.0", {{"Transfer-Encoding", "chunked"}}));
  EXPECT_TRUE(CheckHeaders("HTTP/1.0", {host, host}));
}

}  // namespace
}  // namespace cow::exporter
