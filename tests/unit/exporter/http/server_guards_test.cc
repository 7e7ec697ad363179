#include "tests/unit/exporter/http/server_fixture.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace cow::exporter {
namespace {

// Two servers could read these in two ways. The connection ends after the answer.
TEST_F(ServerTest, AmbiguousRequestsAre400) {
  const std::string address = Start("127.0.0.1:0");
  const std::string nul(1, '\0');
  const std::string line = "GET /metrics HTTP/1.1\r\n";
  const std::string host = "Host: x\r\n";
  const std::string end = "\r\n";
  const std::vector<std::string> refused = {
      line + end,
      line + host + host + end,
      line + "Host: a b\r\n" + end,
      line + "Host:\r\n" + end,
      line + host + "Content-Length: 1\r\nContent-Length: 1\r\n" + end + "x",
      line + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + end + "0\r\n\r\n",
      line + host + "Content-Length : 1\r\n" + end + "x",
      "GET /metrics" + nul + "x HTTP/1.1\r\n" + host + end,
      "GET /metrics?" + nul + "a HTTP/1.1\r\n" + host + end,
      "GET" + nul + " /metrics HTTP/1.1\r\n" + host + end,
      "GET /metrics HTTP/1.1" + nul + "\r\n" + host + end,
      line + "Host: x" + nul + "y\r\n" + end,
      line + host + "X-A: b" + nul + "\r\n" + end,
      line + "X-A: b" + nul + "c\r\n" + host + end,
      line + "X-A" + nul + "b: c\r\n" + host + end,
      line + host + nul + "X-A: b\r\n" + end,
      line + host + nul + "\r\n" + end,
  };
  for (const std::string& text : refused) {
    const Client client(address);
    client.Send(text + "GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n");
    const std::string all = client.ReadAll();
    // libmicrohttpd 1.0.1 closes the connection without an answer if the request line has a NUL.
    const bool is_closed = all.empty() && text.find('\0') < text.find('\n');
    EXPECT_TRUE(is_closed || all.starts_with("HTTP/1.1 400 ") || all.starts_with("HTTP/1.0 400 "))
        << text << all.substr(0, 40);
    EXPECT_EQ(all.find("ready\n"), std::string::npos) << text;
  }
  for (const std::string& text :
       {line + host + end, line + "Host:x:1\r\nX-A:\t b \r\nX-B:\r\n" + end,
        std::string("GET /metrics?a=%00&b=1+2&c HTTP/1.0\n\n"), "\r\n" + line + host + "Connection: close\r\n" + end}) {
    const Client client(address);
    client.Send(text);
    EXPECT_TRUE(client.ReadSome().starts_with("HTTP/1.")) << text;
    const Client again(address);
    again.Send(text);
    EXPECT_NE(again.ReadSome().find(" 200 "), std::string::npos) << text;
  }
}

TEST_F(ServerTest, OtherSitesNeitherReloadNorReadTheConfiguration) {
  reload_ = [] { return std::nullopt; };
  const std::string address = Start("127.0.0.1:0");
  EXPECT_EQ(Ask(address, "POST /-/reload", "Origin: http://x\r\n").status, 200);
  const Answer refused = Ask(address, "POST /-/reload", "Origin: http://evil.example\r\n");
  EXPECT_EQ(refused.status, 403);
  EXPECT_NE(refused.body.find("--web.external-url"), std::string::npos);
  ServerOptions options;
  options.host_names = {"machine"};
  const std::string strict = Start("127.0.0.1:0", options);
  for (const char* line : {"GET /config", "POST /-/reload"}) {
    const Answer answer = Ask(strict, line);
    EXPECT_EQ(answer.status, 421) << line;
    EXPECT_NE(answer.body.find("--web.external-url"), std::string::npos);
  }
  EXPECT_EQ(Ask(strict, "GET /metrics").status, 200);
}

}  // namespace
}  // namespace cow::exporter
