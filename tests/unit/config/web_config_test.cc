#include "config/web_config.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace cow::config {
namespace {

const std::string kHash = "$2y$10$abcdefghijklmnopqrstuuPC8rIIWQR0Txc4lPb.OXo6IgXvA7Bra";

WebConfig Good(std::string_view text) {
  WebLoadResult result = ParseWebConfig(text, "/etc/web.yml");
  EXPECT_TRUE(result.errors.empty()) << (result.errors.empty() ? "" : result.errors.front().ToString());
  return std::move(result.config);
}

std::vector<std::string> WebErrors(std::string_view text) {
  std::vector<std::string> errors;
  for (const ConfigError& error : ParseWebConfig(text, "w").errors) errors.push_back(error.ToString());
  return errors;
}

// The first error without the file name.
std::string Error(std::string_view text) {
  const std::vector<std::string> errors = WebErrors(text);
  return errors.empty() ? "" : errors.front().substr(2);
}

TEST(WebConfigTest, EmptyFileSetsNoRules) {
  for (const char* text :
       {"", "# comment\n", "tls_server_config:\n", "tls_server_config: {}\nbasic_auth_users: {}\n"}) {
    const WebConfig config = Good(text);
    EXPECT_FALSE(config.tls) << text;
    EXPECT_TRUE(config.users.empty());
    EXPECT_TRUE(config.headers.empty());
  }
}

TEST(WebConfigTest, Everything) {
  const WebConfig config = Good(R"(
tls_server_config:
  cert_file: cert.pem
  key_file: /keys/key.pem
  client_ca_file: ../ca.pem
  client_auth_type: RequireAndVerifyClientCert
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [X25519, CurveP256]
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    Strict-Transport-Security: max-age=1
    X-XSS-Protection: ""
basic_auth_users:
  a: )" + kHash + "\n  'b c': '" +
                                kHash + "'\n");
  ASSERT_TRUE(config.tls);
  EXPECT_EQ(config.tls->cert_file, "/etc/cert.pem");
  EXPECT_EQ(config.tls->key_file, "/keys/key.pem");
  EXPECT_EQ(config.tls->client_ca_file, "/etc/../ca.pem");
  EXPECT_EQ(config.tls->client_auth, ClientAuth::kRequireVerified);
  EXPECT_EQ(config.tls->min_version, TlsVersion::k13);
  EXPECT_EQ(config.tls->max_version, TlsVersion::k13);
  EXPECT_EQ(config.tls->cipher_suites, std::vector<std::string>{"TLS_AES_128_GCM_SHA256"});
  EXPECT_FALSE(config.tls->prefer_server_cipher_suites);
  EXPECT_EQ(config.tls->curves, (std::vector<std::string>{"X25519", "CurveP256"}));
  EXPECT_EQ(config.headers, (std::map<std::string, std::string>{{"X-Frame-Options", "deny"},
                                                                {"Strict-Transport-Security", "max-age=1"}}));
  EXPECT_EQ(config.users, (std::map<std::string, std::string>{{"a", kHash}, {"b c", kHash}}));
}

TEST(WebConfigTest, PathsAreRelativeToTheFile) {
  const std::string text = "tls_server_config: {cert_file: c, key_file: k}";
  EXPECT_EQ(ParseWebConfig(text, "web.yml").config.tls->cert_file, "c");
  EXPECT_EQ(ParseWebConfig(text, "a/web.yml").config.tls->cert_file, "a/c");
}

TEST(WebConfigTest, AllErrorsAtOnceWithTheirPlace) {
  const std::string keys =
      "cert_file, key_file, client_ca_file, cert, key, client_ca, client_auth_type, client_allowed_sans, min_version, "
      "max_version, cipher_suites, curve_preferences, prefer_server_cipher_suites";
  const std::string sections = "tls_server_config, http_server_config, basic_auth_users, rate_limit";
  EXPECT_EQ(
      WebErrors(
          "tls_server_config:\n  cert_file: [a]\n  min_version: TLS11\n  nope: 1\nbasic_auth_users:\n  a: secret\n"
          "more: 1\n"),
      (std::vector<std::string>{
          "w:2:14: tls_server_config.cert_file: expected a path, got a list",
          "w:3:16: tls_server_config.min_version: expected one of TLS12, TLS13, got \"TLS11\"",
          R"(w:4:3: tls_server_config: unknown key "nope"; valid here: )" + keys,
          "w:6:6: basic_auth_users.\"a\": expected a bcrypt hash ($2y$, $2b$ or $2a$), as htpasswd -nB makes them",
          R"(w:7:1: unknown key "more"; valid here: )" + sections}));
}

TEST(WebConfigTest, Refuses) {
  EXPECT_EQ(Error("[]"), "1:1: the file: expected a map of keys, got a list");
  EXPECT_EQ(Error("basic_auth_users: {}\nbasic_auth_users: {}"),
            "2:1: duplicate key \"basic_auth_users\", first given in line 1");
  EXPECT_EQ(Error("---\n{}\n---\n{}\n").substr(0, 22), "3:1: a second document");
  EXPECT_NE(Error("a: [").find("not valid YAML"), std::string::npos);
  EXPECT_EQ(Error("tls_server_config: {cert_file: a}"), "1:1: tls_server_config: key_file is missing");
  EXPECT_EQ(Error("tls_server_config: {key_file: a}"), "1:1: tls_server_config: cert_file is missing");
  const auto tls = [](const std::string& rest) {
    return Error("tls_server_config: {cert_file: c, key_file: k, " + rest + "}");
  };
  EXPECT_EQ(tls("min_version: TLS13, max_version: TLS12"), "1:1: tls_server_config: min_version is above max_version");
  EXPECT_EQ(tls("client_ca_file: a"), "1:1: tls_server_config: client_ca_file has no effect without client_auth_type");
  EXPECT_EQ(tls("client_auth_type: VerifyClientCertIfGiven"),
            "1:1: tls_server_config: client_auth_type needs client_ca_file");
  EXPECT_NE(tls("client_auth_type: Yes").find("expected one of NoClientCert"), std::string::npos);
  EXPECT_NE(tls("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]").find("expected one of"), std::string::npos);
  EXPECT_NE(tls("cipher_suites: TLS_AES_128_GCM_SHA256").find("expected a list"), std::string::npos);
  EXPECT_NE(tls("curve_preferences: [P256]").find("expected one of X25519"), std::string::npos);
  EXPECT_NE(Error("http_server_config: {headers: {Server: x}}").find("unknown header \"Server\""), std::string::npos);
  EXPECT_NE(Error("http_server_config: {headers: {X-Frame-Options: no}}").find("expected one of deny"),
            std::string::npos);
  EXPECT_NE(Error("http_server_config: {headers: {X-XSS-Protection: \"a\\r\\nb\"}}").find("one line"),
            std::string::npos);
  EXPECT_NE(Error("http_server_config: {http2: 2}").find("expected one of true, false"), std::string::npos);
  EXPECT_EQ(Error("http_server_config:\n  http2: true\n"),
            "2:10: http_server_config.http2: the server speaks only HTTP/1.1; set false or remove the key");
  EXPECT_NE(Error("basic_auth_users: {\"a:b\": x}").find("colon"), std::string::npos);
}

TEST(WebConfigTest, TextsInsteadOfFiles) {
  const WebConfig config = Good(R"(
tls_server_config:
  cert: |
    -----BEGIN CERTIFICATE-----
    AA==
    -----END CERTIFICATE-----
  key: "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"
  client_ca: |
    the CA's:
    -----BEGIN CERTIFICATE-----
  client_auth_type: RequireClientCert
)");
  ASSERT_TRUE(config.tls);
  EXPECT_EQ(config.tls->cert, "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");
  EXPECT_EQ(config.tls->key, "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n");
  EXPECT_EQ(config.tls->client_ca, "the CA's:\n-----BEGIN CERTIFICATE-----\n");
  EXPECT_EQ(config.tls->cert_file + config.tls->key_file + config.tls->client_ca_file, "");
}

TEST(WebConfigTest, AFileOrATextButNotBoth) {
  const std::string pem = "'-----BEGIN X-----'";
  EXPECT_EQ(WebErrors("tls_server_config:\n  cert: " + pem + "\n  key: " + pem +
                      "\n  cert_file: c\n  key_file: k\n  client_ca_file: a\n  client_ca: " + pem + "\n"),
            (std::vector<std::string>{"w:4:3: tls_server_config: cert and cert_file exclude each other",
                                      "w:5:3: tls_server_config: key and key_file exclude each other",
                                      "w:7:3: tls_server_config: client_ca and client_ca_file exclude each other"}));
  EXPECT_EQ(Error("tls_server_config: {cert: " + pem + ", key_file: k}"), "");
  EXPECT_EQ(Error("tls_server_config: {cert: " + pem + "}"), "1:1: tls_server_config: key_file is missing");
  EXPECT_EQ(Error("tls_server_config: {cert: " + pem + ", key_file: k, client_ca: " + pem + "}"),
            "1:1: tls_server_config: client_ca has no effect without client_auth_type");
}

// Swaps texts and paths. Errors never quote a possible key.
TEST(WebConfigTest, NeverQuotesAKey) {
  EXPECT_EQ(WebErrors("tls_server_config:\n  cert: server.pem\n  key: hunter2\n"
                      "  client_ca_file: '-----BEGIN SECRET-----'\n"),
            (std::vector<std::string>{
                "w:2:9: tls_server_config.cert: expected a PEM text (-----BEGIN ...); cert_file takes a path",
                "w:3:8: tls_server_config.key: expected a PEM text (-----BEGIN ...); key_file takes a path",
                "w:4:19: tls_server_config.client_ca_file: expected a path, got a PEM text; use client_ca"}));
  // A key in place of a section, a list, a name and a path.
  for (const char* section : {"tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"}) {
    const std::string problem = std::string(section) + ": expected a map of keys, got a text";
    for (const std::string& secret : {kHash, std::string("|\n  -----BEGIN SECRET-----\n  hunter2\n")}) {
      const std::string error = Error(std::string(section) + ": " + secret);
      EXPECT_EQ(error, "1:" + std::to_string(std::string(section).size() + 3) + ": " + problem);
    }
  }
  EXPECT_EQ(Error(kHash), "1:1: the file: expected a map of keys, got a text");
  EXPECT_EQ(Error("basic_auth_users: {hunter2}"), "1:20: basic_auth_users: expected a name with a bcrypt hash");
  EXPECT_EQ(Error("tls_server_config:\n  cipher_suites: hunter2"),
            "2:18: tls_server_config.cipher_suites: expected a list of names, got a text");
  for (const std::string& key : std::vector<std::string>{
           "M" + std::string(63, 'a'), "MIGH" + std::string(60, '/') + " ab+=", "|\n    MII\n    aaaa",
           std::string(4097, 'a'), R"("a\0b")", "''"}) {
    EXPECT_EQ(Error("tls_server_config:\n  key_file: " + key + "\n"),
              "2:13: tls_server_config.key_file: expected a path, got another text")
        << key;
  }
  const std::string path = "M" + std::string(40, 'y') + "/tls.key/" + std::string(40, 'a');
  EXPECT_EQ(Error("tls_server_config: {cert_file: c, key_file: " + path + "}"), "");
  EXPECT_EQ(Error("basic_auth_users: {a: *hunter2}").find("hunter2"), std::string::npos);
}

TEST(WebConfigTest, AllowedNames) {
  const auto tls = [](const std::string& rest) {
    return "tls_server_config: {cert_file: c, key_file: k, client_ca_file: a, " + rest + "}";
  };
  const std::string names = "client_allowed_sans: [a.example, 10.0.0.1, 'spiffe://a/b']";
  EXPECT_EQ(Good(tls("client_auth_type: RequireAndVerifyClientCert, " + names)).tls->client_allowed_sans,
            (std::vector<std::string>{"a.example", "10.0.0.1", "spiffe://a/b"}));
  // An unverified certificate can hold any name.
  for (const std::string type :
       {"RequireAnyClientCert", "RequireClientCert", "VerifyClientCertIfGiven", "RequestClientCert"}) {
    const std::string error = Error("tls_server_config:\n  cert_file: c\n  key_file: k\n  client_ca_file: a\n  " +
                                    names + "\n  client_auth_type: " + type + "\n");
    EXPECT_EQ(error.rfind("5:3: tls_server_config.client_allowed_sans: needs client_auth_type "
                          "RequireAndVerifyClientCert, ",
                          0),
              0U)
        << error;
  }
  const std::string nobody =
      " tls_server_config.client_allowed_sans: the list is empty, which would refuse every client";
  EXPECT_EQ(Error("tls_server_config:\n  client_allowed_sans:"), "2:3:" + nobody);
  EXPECT_EQ(Error("tls_server_config:\n  client_allowed_sans: []"), "2:24:" + nobody);
  EXPECT_EQ(Error("tls_server_config:\n  client_allowed_sans: [a, {}]"),
            "2:28: tls_server_config.client_allowed_sans[1]: expected a DNS name, an IP or e-mail address or a URI, "
            "got a map");
  EXPECT_NE(Error("tls_server_config: {client_allowed_sans: a}").find("expected a list of names"), std::string::npos);
}

// Every key of exporter-toolkit's format is read: a bad value is an error.
TEST(WebConfigTest, NoKeyOfTheFormatIsIgnored) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> sections = {
      {"tls_server_config",
       {"cert", "key", "client_ca", "cert_file", "key_file", "client_auth_type", "client_ca_file",
        "client_allowed_sans", "min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites",
        "curve_preferences"}},
      {"http_server_config", {"http2", "headers"}},
      {"rate_limit", {"interval", "burst"}}};
  for (const auto& [section, keys] : sections) {
    for (const std::string& key : keys) {
      const std::vector<std::string> errors = WebErrors(section + ":\n  " + key + ": [{}]\n");
      ASSERT_EQ(errors.size(), 1U) << key;
      EXPECT_EQ(errors[0].rfind("w:2:", 0), 0U) << errors[0];
      EXPECT_NE(errors[0].find(section + "." + key), std::string::npos) << errors[0];
    }
  }
  for (const char* header : {"Content-Security-Policy", "X-Frame-Options", "X-Content-Type-Options", "X-XSS-Protection",
                             "Strict-Transport-Security"}) {
    EXPECT_NE(Error("http_server_config: {headers: {" + std::string(header) + ": [a]}}")
                  .find("headers." + std::string(header)),
              std::string::npos);
  }
  EXPECT_NE(Error("basic_auth_users: [a]"), "");
}

TEST(WebConfigTest, RateLimit) {
  using std::chrono::nanoseconds;
  EXPECT_EQ(Good("rate_limit: {interval: 1.5s, burst: 20}").rate_limit, (RateLimit{nanoseconds{1'500'000'000}, 20}));
  EXPECT_EQ(Good("rate_limit: {interval: \"10us\", burst: 1}").rate_limit, (RateLimit{nanoseconds{10'000}, 1}));
  for (const char* off :
       {"rate_limit:", "rate_limit: {}", "rate_limit: {interval: 0, burst: 20}", "rate_limit: {interval: 0s}"}) {
    EXPECT_EQ(Good(off).rate_limit, std::nullopt) << off;
  }
  EXPECT_EQ(Error("rate_limit: {burst: 20}"), "1:1: rate_limit: interval is missing (0 disables the limit)");
  for (const char* none : {"rate_limit: {interval: 1s}", "rate_limit: {interval: 1s, burst: 0}"}) {
    EXPECT_EQ(Error(none), "1:1: rate_limit: burst must be 1 or more, else every request is refused");
  }
  EXPECT_EQ(WebErrors("rate_limit:\n  interval: 5\n  burst: -1\n  rate: 1\n"),
            (std::vector<std::string>{"w:2:13: rate_limit.interval: bad duration \"5\": no unit (h, m, s, ms, us, ns)",
                                      "w:3:10: rate_limit.burst: bad number \"-1\": expected a whole number",
                                      "w:4:3: rate_limit: unknown key \"rate\"; valid here: interval, burst"}));
}

// GnuTLS must not allow suites that the list does not name.
TEST(WebConfigTest, SuitesMustIncludeAllPairs) {
  const auto tls = [](const std::string& suites) {
    return Error("tls_server_config: {cert_file: c, key_file: k, cipher_suites: [" + suites + "]}");
  };
  EXPECT_EQ(tls("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
            "1:1: tls_server_config: cipher_suites needs TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 too: GnuTLS "
            "combines each key exchange with each cipher");
  EXPECT_EQ(tls("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), "");
  EXPECT_EQ(tls("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256"), "");
  EXPECT_NE(tls("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384"), "");
  EXPECT_EQ(tls("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA], min_version: TLS13, curve_preferences: ["),
            "1:1: tls_server_config: cipher_suites has no suite of TLS 1.3");
  EXPECT_EQ(tls("TLS_AES_128_GCM_SHA256], max_version: TLS12, curve_preferences: ["),
            "1:1: tls_server_config: cipher_suites has no suite of TLS 1.2");
}

TEST(WebConfigTest, Hashes) {
  const auto error = [](const std::string& hash) { return Error("basic_auth_users: {a: '" + hash + "'}"); };
  std::string hash = kHash;
  for (const char kind : {'a', 'b', 'y'}) {
    hash[2] = kind;
    EXPECT_EQ(error(hash), "");
  }
  EXPECT_NE(error(hash.substr(1)), "");
  EXPECT_NE(error(hash + "x"), "");
  EXPECT_NE(error("$1$abc$def"), "");
  EXPECT_NE(error(""), "");
  // The text may be a password.
  EXPECT_EQ(error("hunter2").find("hunter2"), std::string::npos);
  hash.replace(4, 2, "31");
  EXPECT_NE(error(hash).find("cost is 31, it must be from 4 to 13"), std::string::npos);
  hash.replace(4, 2, "03");
  EXPECT_NE(error(hash), "");
}

TEST(WebConfigTest, MissingFile) {
  const WebLoadResult result = LoadWebConfig("/nonexistent/web.yml");
  ASSERT_EQ(result.errors.size(), 1U);
  EXPECT_EQ(result.errors[0].ToString(), "/nonexistent/web.yml: No such file or directory");
}

TEST(WebConfigTest, AcceptsAnyBytes) {
  std::mt19937 random(1);  // NOLINT: the same each time
  const std::string base =
      "tls_server_config:\n  cert_file: c\n  key_file: k\n  cipher_suites: [a]\nbasic_auth_users:\n  a: b\n";
  for (int i = 0; i < 3'000; ++i) {
    std::string text = base;
    for (int change = 0; change < 4; ++change) {
      const size_t at = random() % text.size();
      if (random() % 2 == 0) text[at] = static_cast<char>(random());
      if (random() % 4 == 0) text.erase(at, random() % 5);
    }
    for (const ConfigError& error : ParseWebConfig(text, "w").errors) EXPECT_GE(error.line, 1) << text;
  }
}

}  // namespace
}  // namespace cow::config
