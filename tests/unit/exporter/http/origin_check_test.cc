#include "exporter/http/origin_check.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <vector>

namespace cow::exporter {
namespace {

unsigned StatusOf(const OriginCheck& check, const std::string& path,
                  const std::map<std::string, std::string, std::less<>>& headers,
                  ClientKey::Kind kind = ClientKey::Kind::kIpv4) {
  HttpRequest request;
  request.path = path;
  request.headers = headers;
  request.client.kind = kind;
  const auto refusal = check.Check(request);
  return refusal ? refusal->status : 200;
}

TEST(OriginCheckTest, HostMustBeOwn) {
  const OriginCheck check({"Machine", "machine.example"}, "https://proxy.example/cow");
  for (const char* path : {"/config", "/-/reload"}) {
    for (const char* host : {"machine:10066", "MACHINE.example", "machine.example.:1", "localhost:1", "a.localhost",
                             "127.0.0.1:10066", "10.9.8.7", "[2001:db8::1]:10066", "proxy.example"}) {
      EXPECT_EQ(StatusOf(check, path, {{"host", host}}), 200U) << host;
    }
    for (const char* host : {"evil.example:10066", "machine.evil.example", "localhost.evil.example", "notlocalhost",
                             "127.0.0.1.evil.example"}) {
      EXPECT_EQ(StatusOf(check, path, {{"host", host}}), 421U) << host;
      EXPECT_EQ(StatusOf(check, path, {{"host", host}}, ClientKey::Kind::kUser), 200U) << host;
    }
    EXPECT_EQ(StatusOf(check, path, {}), 200U);
  }
  for (const char* path : {"/metrics", "/", "/-/healthy"}) {
    EXPECT_EQ(StatusOf(check, path, {{"host", "any.example"}}), 200U);
  }
}

TEST(OriginCheckTest, ReloadsComeFromTheOwnOrigin) {
  const OriginCheck check({"machine"}, "https://proxy.example/cow");
  const auto status = [&check](const std::string& name, const std::string& value) {
    return StatusOf(check, "/-/reload", {{"host", "machine:10066"}, {name, value}});
  };
  for (const char* origin : {"http://machine:10066", "https://machine:10066", "https://proxy.example"}) {
    EXPECT_EQ(status("origin", origin), 200U) << origin;
  }
  for (const char* origin : {"null", "", "http://evil.example", "http://machine", "http://machine:1",
                             "http://proxy.example", "http://machine:10066.evil.example"}) {
    EXPECT_EQ(status("origin", origin), 403U) << origin;
  }
  EXPECT_EQ(StatusOf(check, "/-/reload", {{"host", "machine"}, {"origin", "http://machine"}}), 200U);
  EXPECT_EQ(status("sec-fetch-site", "same-origin"), 200U);
  EXPECT_EQ(status("sec-fetch-site", "none"), 200U);
  EXPECT_EQ(status("sec-fetch-site", "cross-site"), 403U);
  EXPECT_EQ(status("sec-fetch-site", "same-site"), 403U);
  // A browser does not let another site read the page.
  EXPECT_EQ(StatusOf(check, "/config", {{"host", "machine"}, {"origin", "http://evil.example"}}), 200U);
}

TEST(HostNamesTest, ContainTheHostName) {
  std::array<char, 256> name{};
  ASSERT_EQ(gethostname(name.data(), name.size() - 1), 0);
  const std::vector<std::string> names = HostNames();
  EXPECT_NE(std::find(names.begin(), names.end(), name.data()), names.end());
}

}  // namespace
}  // namespace cow::exporter
