#include "tests/unit/exporter/http/server_fixture.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spdlog/sinks/ostream_sink.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "exporter/http/runbooks.h"

namespace cow::exporter {
namespace {

TEST_F(ServerTest, ServesMetrics) {
  const std::string address = Start("127.0.0.1:0");
  const Answer answer = Ask(address, "GET /metrics");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, kText);
  EXPECT_TRUE(HasHeader(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8")) << answer.head;
  EXPECT_TRUE(HasHeader(answer, "Content-Length: " + std::to_string(std::string(kText).size()))) << answer.head;
  EXPECT_TRUE(HasHeader(answer, "X-Content-Type-Options: nosniff")) << answer.head;
  EXPECT_EQ(Ask(address, "GET /metrics?x=%00&y").status, 200);
}

TEST_F(ServerTest, ServesOpenMetricsOnRequest) {
  const std::string address = Start("127.0.0.1:0");
  const Answer answer =
      Ask(address, "GET /metrics", "Accept: application/openmetrics-text;version=1.0.0, text/plain;q=0.5\r\n");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body,
            "# TYPE a gauge\na 1\n# TYPE b_bytes counter\n# UNIT b_bytes bytes\nb_bytes_total 0\n# TYPE c gauge\nc 1\n"
            "# EOF\n");
  EXPECT_TRUE(HasHeader(answer, "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
  EXPECT_TRUE(HasHeader(answer, "Vary: Accept, Accept-Encoding")) << answer.head;
  // Repeated headers are joined.
  EXPECT_EQ(Ask(address, "GET /metrics", "Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text\r\n").body,
            answer.body);
}

TEST_F(ServerTest, CompressesOnRequest) {
  const std::string address = Start("127.0.0.1:0");
  const Answer answer = Ask(address, "GET /metrics", "Accept-Encoding: deflate, gzip;q=0.5\r\n");
  EXPECT_TRUE(HasHeader(answer, "Content-Encoding: gzip")) << answer.head;
  EXPECT_EQ(answer.body.substr(0, 2), "\x1f\x8b");
  EXPECT_EQ(Ask(address, "GET /metrics", "Accept-Encoding: gzip;q=0\r\n").body, kText);
}

TEST_F(ServerTest, FiltersByCollector) {
  const std::string address = Start("127.0.0.1:0");
  const std::string thp = "# TYPE b_bytes_total counter\nb_bytes_total 0\n# TYPE c gauge\nc 1\n";
  EXPECT_EQ(Ask(address, "GET /metrics?collect[]=thp").body, thp);
  EXPECT_EQ(Ask(address, "GET /metrics?collect%5B%5D=%74hp&collect[]=thp").body, thp);
  EXPECT_EQ(Ask(address, "GET /metrics?exclude[]=cow").body, thp);
  EXPECT_EQ(Ask(address, "GET /metrics?collect[]=thp&collect[]=cow").body, kText);
  for (const std::string query : {"collect[]=nope", "exclude[]=nope", "collect[]=", "collect[]=ksm", "collect[]=%zz",
                                  "collect[]=cow&exclude[]=thp"}) {
    scrape_ = [](Deadline /*deadline*/) -> std::shared_ptr<const Snapshot> { throw std::runtime_error("scraped"); };
    const Answer answer = Ask(address, "GET /metrics?" + query);
    EXPECT_EQ(answer.status, 400) << query;
    EXPECT_TRUE(HasHeader(answer, "Content-Type: text/plain; charset=utf-8")) << answer.head;
  }
}

TEST_F(ServerTest, HeadIsGetWithoutBody) {
  const std::string address = Start("127.0.0.1:0");
  for (const std::string path : {"/metrics", "/", "/-/healthy", "/-/ready", "/runbooks/CowExplosion", "/nope"}) {
    const Answer get = Ask(address, "GET " + path);
    const Answer head = Ask(address, "HEAD " + path);
    EXPECT_EQ(head.status, get.status) << path;
    EXPECT_TRUE(HasHeader(head, "Content-Length: " + std::to_string(get.body.size()))) << path << head.head;
    EXPECT_EQ(head.body, "") << path;
  }
}

TEST_F(ServerTest, HealthAndReadiness) {
  const std::string address = Start("127.0.0.1:0");
  ready_ = false;
  EXPECT_EQ(Ask(address, "GET /-/healthy").status, 200);
  EXPECT_EQ(Ask(address, "GET /-/ready").status, 503);
  ready_ = true;
  EXPECT_EQ(Ask(address, "GET /-/ready").status, 200);
}

TEST_F(ServerTest, LandingPage) {
  ServerOptions options;
  options.telemetry_path = "/m";
  const std::string address = Start("127.0.0.1:0", options);
  const Answer answer = Ask(address, "GET /");
  EXPECT_EQ(answer.status, 200);
  EXPECT_NE(answer.body.find("href=\"/m\""), std::string::npos);
  for (const std::string path : {"/config", "/runbooks/", "/-/healthy", "/-/ready"}) {
    EXPECT_NE(answer.body.find("href=\"" + path + "\""), std::string::npos) << path;
    EXPECT_EQ(Ask(address, "GET " + path).status, 200) << path;
  }
  EXPECT_NE(answer.body.find("1.2.3"), std::string::npos);
  EXPECT_NE(answer.head.find("Content-Security-Policy: default-src 'none'"), std::string::npos);
  EXPECT_TRUE(HasHeader(answer, "Content-Type: text/html; charset=utf-8"));
  EXPECT_EQ(Ask(address, "GET /m").status, 200);
  EXPECT_EQ(Ask(address, "GET /metrics").status, 404);
}

TEST_F(ServerTest, ServesRunbooks) {
  const std::string address = Start("127.0.0.1:0");
  const auto security = [](const Answer& answer) {
    std::string headers;
    for (const std::string name : {"Content-Security-Policy", "X-Frame-Options", "Referrer-Policy", "Cache-Control",
                                   "X-Content-Type-Options", "Content-Type"}) {
      const size_t begin = answer.head.find("\r\n" + name + ": ");
      EXPECT_NE(begin, std::string::npos) << name;
      if (begin != std::string::npos) headers += answer.head.substr(begin, answer.head.find("\r\n", begin + 2) - begin);
    }
    return headers;
  };
  const std::string landing_page = security(Ask(address, "GET /"));
  for (const Runbook& runbook : Runbooks()) {
    const std::string path = "/runbooks/" + (runbook.name == "index" ? "" : std::string(runbook.name));
    const Answer answer = Ask(address, "GET " + path);
    EXPECT_EQ(answer.status, 200) << path;
    EXPECT_NE(answer.body.find(runbook.html), std::string::npos) << path;
    EXPECT_EQ(answer.body.find("<script"), std::string::npos) << path;
    EXPECT_EQ(security(answer), landing_page) << path;
    EXPECT_EQ(Ask(address, "POST " + path).status, 405) << path;
  }
  for (const std::string path : {"/runbooks", "/runbooks/index", "/runbooks/CowNothing", "/runbooks/CowExplosion.md",
                                 "/runbooks/CowExplosion/", "/runbooks/../config"}) {
    EXPECT_EQ(Ask(address, "GET " + path).status, 404) << path;
  }
}

TEST_F(ServerTest, OnlyExactPaths) {
  const std::string address = Start("127.0.0.1:0");
  for (const std::string path :
       {"/metricsx", "/metrics/", "//metrics", "/%6detrics", "/metrics%00", "/metrics%00x", "/%00", "/./metrics",
        "/Metrics", "//", "/-/ready/", "/-", "http://x/metrics", "*", "/%2d/ready"}) {
    EXPECT_EQ(Ask(address, "GET " + path).status, 404) << path;
  }
}

TEST_F(ServerTest, OtherMethods) {
  const std::string address = Start("127.0.0.1:0");
  for (const std::string method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "FOO"}) {
    for (const std::string path : {"/metrics", "/", "/-/healthy", "/-/ready"}) {
      const Answer answer = Ask(address, std::string(method).append(" ").append(path));
      EXPECT_EQ(answer.status, 405) << method << path;
      EXPECT_TRUE(HasHeader(answer, "Allow: GET, HEAD")) << answer.head;
    }
    EXPECT_EQ(Ask(address, std::string(method).append(" /nope")).status, 404) << method;
  }
}

TEST_F(ServerTest, BodiesAreNotRequests) {
  const std::string address = Start("127.0.0.1:0");
  const Client client(address);
  const std::string smuggled = "GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n";
  client.Send("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(smuggled.size()) + "\r\n\r\n" +
              smuggled + "GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string all = client.ReadAll();
  EXPECT_NE(all.find("\na 1\n"), std::string::npos) << all;
  EXPECT_EQ(all.find("ready\n"), std::string::npos) << all;
  EXPECT_NE(all.find("healthy\n"), std::string::npos) << all;
}

TEST_F(ServerTest, MalformedRequestsAreAnsweredOrClosed) {
  const std::string address = Start("127.0.0.1:0");
  for (const std::string& text :
       {std::string("\r\n\r\n"), std::string("GET\r\n\r\n"), std::string(200'000, 'A') + "\r\n\r\n",
        "GET /" + std::string(200'000, 'a') + " HTTP/1.1\r\n\r\n",
        std::string("GET /metrics HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n")}) {
    const Client client(address);
    client.TrySend(text);
  }
  EXPECT_EQ(Ask(address, "GET /metrics").status, 200);
}

TEST_F(ServerTest, ScrapeTimeoutBecomesADeadline) {
  const std::string address = Start("127.0.0.1:0");
  Deadline seen;
  scrape_ = [&seen](Deadline deadline) {
    seen = deadline;
    return MakeSnapshot();
  };
  const auto ask = [&](const std::string& value) {
    seen.reset();
    EXPECT_EQ(Ask(address, "GET /metrics", "X-Prometheus-Scrape-Timeout-Seconds: " + value + "\r\n").status, 200);
  };
  const auto before = Clock::now();
  ask("10");
  ASSERT_TRUE(seen);
  EXPECT_GE(*seen, before + milliseconds{9500});
  EXPECT_LE(*seen, Clock::now() + milliseconds{9500});
  for (const char* nonsense : {"nan", "inf", "-1", "0", "x", "1e999", ""}) {
    ask(nonsense);
    EXPECT_FALSE(seen) << nonsense;
  }
  ask("1e300");
  EXPECT_TRUE(seen);
}

TEST_F(ServerTest, TooManyRequestsAre503) {
  ServerOptions options;
  options.max_requests = 2;
  const std::string address = Start("127.0.0.1:0", options);
  std::promise<void> go;
  auto gate = go.get_future().share();
  std::atomic<int> inside = 0;
  scrape_ = [&, gate](Deadline /*deadline*/) {
    ++inside;
    gate.wait();
    return MakeSnapshot();
  };
  std::vector<std::future<int>> blocked;
  blocked.reserve(2);
  for (int i = 0; i < 2; ++i) {
    blocked.push_back(std::async(std::launch::async, [&] { return Ask(address, "GET /metrics").status; }));
  }
  while (inside < 2) std::this_thread::sleep_for(milliseconds{1});
  EXPECT_EQ(Ask(address, "GET /metrics").status, 503);
  EXPECT_EQ(Ask(address, "GET /-/healthy").status, 200);
  go.set_value();
  for (auto& request : blocked) EXPECT_EQ(request.get(), 200);
  // The count drops shortly after the client received its response.
  int status = 0;
  for (int i = 0; i < 1000 && status != 200; ++i) status = Ask(address, "GET /metrics").status;
  EXPECT_EQ(status, 200);
}

TEST_F(ServerTest, SilentClientsDelayNoOthersAndAreClosed) {
  ServerOptions options;
  options.silence_timeout = std::chrono::seconds{1};
  const std::string address = Start("127.0.0.1:0", options);
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 20; ++i) {
    silent.push_back(std::make_unique<Client>(address));
    if (i % 2 == 0) silent.back()->Send("GET /met");
  }
  EXPECT_EQ(Ask(address, "GET /metrics").status, 200);
  for (const auto& client : silent) client->ReadAll();  // ends, because the server closes
}

// Single bytes do not extend the deadline of a request.
TEST_F(ServerTest, TricklingClientsAreClosed) {
  ServerOptions options;
  options.limits.request = milliseconds{500};
  const std::string address = Start("127.0.0.1:0", options);
  const Client client(address);
  const auto start = Clock::now();
  client.Send("GET /metrics HTTP/1.1\r\nHost: x\r\n");
  while (Clock::now() - start < milliseconds{10'000} && client.SendsStill("X-A: b\r\n")) {
    std::this_thread::sleep_for(milliseconds{20});
  }
  EXPECT_GE(Clock::now() - start, milliseconds{450});
  EXPECT_LT(Clock::now() - start, milliseconds{5'000});
  EXPECT_EQ(Ask(address, "GET /metrics").status, 200);
}

// The deadline also holds between requests, and each request starts a new one.
TEST_F(ServerTest, EachRequestHasADeadline) {
  ServerOptions options;
  options.limits.request = milliseconds{600};
  const std::string address = Start("127.0.0.1:0", options);
  const Client client(address);
  for (int i = 0; i < 4; ++i) {
    client.Send("GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_NE(client.ReadSome().find(" 200 "), std::string::npos) << i;
    std::this_thread::sleep_for(milliseconds{300});
  }
  client.ReadAll();  // ends, because the server closes
}

TEST_F(ServerTest, SlowReadersDelayNoOthersAndAreClosed) {
  ServerOptions options;
  options.limits.response = milliseconds{1000};
  options.max_requests = 2;
  const std::string address = Start("127.0.0.1:0", options);
  scrape_ = [large = MakeLargeSnapshot()](Deadline /*deadline*/) { return large; };
  std::vector<std::unique_ptr<Client>> slow;
  for (int i = 0; i < 10; ++i) {
    slow.push_back(std::make_unique<Client>(address));
    slow.back()->Send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_NE(slow.back()->ReadSome(), "");  // so the response exists
  }
  EXPECT_EQ(Ask(address, "GET /metrics").status, 200);
  size_t bytes = 0;
  for (int i = 0; i < 100; ++i) {
    std::this_thread::sleep_for(milliseconds{20});
    bytes += slow.front()->ReadSome().size();
  }
  // The socket buffers still hold a part of the response.
  EXPECT_LT(bytes + slow.front()->ReadAll().size(), kLargeBytes);
  EXPECT_LT(slow.back()->ReadAll().size(), kLargeBytes);
}

TEST_F(ServerTest, LargeRequestsAreRefused) {
  const std::string address = Start("127.0.0.1:0");
  const int status = Ask(address, "GET /metrics", "X-A: " + std::string(100'000, 'a') + "\r\n").status;
  EXPECT_TRUE(status == 431 || status == 413 || status == 0) << status;
  EXPECT_EQ(Ask(address, "GET /metrics", "X-A: " + std::string(8'000, 'a') + "\r\n").status, 200);
}

TEST_F(ServerTest, APassLongerThanTheTimeoutIsAnswered) {
  ServerOptions options;
  options.silence_timeout = std::chrono::seconds{1};
  const std::string address = Start("127.0.0.1:0", options);
  scrape_ = [](Deadline /*deadline*/) {
    std::this_thread::sleep_for(milliseconds{2500});
    return MakeSnapshot();
  };
  EXPECT_EQ(Ask(address, "GET /metrics").status, 200);
}

TEST_F(ServerTest, AnExceptionClosesTheConnectionOnly) {
  const std::string address = Start("127.0.0.1:0");
  scrape_ = [](Deadline /*deadline*/) -> std::shared_ptr<const Snapshot> { throw std::runtime_error("broken"); };
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Ask(address, "GET /metrics").status, 0);
  EXPECT_EQ(Ask(address, "GET /-/healthy").status, 200);
  server_->Stop();
  const std::string log = log_text_.str();
  const size_t told = log.find("msg=\"request failed\" error=broken");
  EXPECT_NE(told, std::string::npos) << log;
  EXPECT_EQ(log.find("request failed", told + 20), std::string::npos) << "not once";
}

TEST_F(ServerTest, StopEndsOpenConnections) {
  const std::string address = Start("127.0.0.1:0");
  const Client idle(address);
  EXPECT_EQ(Ask(address, "GET /metrics").status, 200);
  const auto start = Clock::now();
  server_->Stop();
  EXPECT_LT(Clock::now() - start, milliseconds{1000});
}

TEST_F(ServerTest, SeveralAddresses) {
  const std::string ipv4 = Start("127.0.0.1:0");
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("cow_server_" + std::to_string(getpid()));
  const std::string local = Listen("unix:" + path.string());
  const std::string any = Listen(":0");
  EXPECT_EQ(Ask(ipv4, "GET /metrics").status, 200);
  EXPECT_EQ(Ask(local, "GET /metrics").status, 200);
  EXPECT_EQ(Ask("127.0.0.1" + any.substr(any.rfind(':')), "GET /metrics").status, 200);
  server_->Stop();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(ServerTest, Ipv6) {
  std::string address;
  try {
    address = Start("[::1]:0");
  } catch (const std::runtime_error& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_EQ(Ask(address, "GET /metrics").status, 200);
  const std::string any = Listen(":0");
  EXPECT_EQ(Ask("[::1]" + any.substr(any.rfind(':')), "GET /metrics").status, 200);
}

TEST_F(ServerTest, Reload) {
  std::string address = Start("127.0.0.1:0");
  EXPECT_EQ(Ask(address, "POST /-/reload").status, 403);
  std::optional<std::string> problem;
  reload_ = [&problem] { return problem; };
  address = Start("127.0.0.1:0");
  EXPECT_EQ(Ask(address, "POST /-/reload").status, 200);
  EXPECT_EQ(Ask(address, "PUT /-/reload").status, 200);
  problem = "f.yml:1:2: bad\n";
  const Answer bad = Ask(address, "POST /-/reload");
  EXPECT_EQ(bad.status, 500);
  EXPECT_EQ(bad.body, *problem);
  const Answer get = Ask(address, "GET /-/reload");
  EXPECT_EQ(get.status, 405);
  EXPECT_TRUE(HasHeader(get, "Allow: POST, PUT"));
  EXPECT_EQ(Ask(address, "POST /-/reload/").status, 404);
}

TEST_F(ServerTest, Config) {
  const std::string address = Start("127.0.0.1:0");
  EXPECT_EQ(Ask(address, "GET /config").body, "scan: {}\n");
  EXPECT_EQ(Ask(address, "POST /config").status, 405);
}

}  // namespace
}  // namespace cow::exporter
