#include "config/web_config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>
#include <utility>

#include "config/checker.h"
#include "config/units.h"

namespace cow::config {
namespace {

// A password check cannot be interrupted, and the program must end within a second.
constexpr int kMinBcryptCost = 4;
constexpr int kMaxBcryptCost = 13;
constexpr size_t kMaxBurst = 1'000'000'000;

template <class T>
struct Choice {
  const char* name;
  T value;
};

const std::vector<Choice<ClientAuth>> kClientAuths = {
    {"NoClientCert", ClientAuth::kNone},
    {"RequestClientCert", ClientAuth::kRequest},
    {"RequireAnyClientCert", ClientAuth::kRequireAny},
    {"RequireClientCert", ClientAuth::kRequireAny},  // exporter-toolkit's older name
    {"VerifyClientCertIfGiven", ClientAuth::kVerifyIfGiven},
    {"RequireAndVerifyClientCert", ClientAuth::kRequireVerified}};
const std::vector<Choice<TlsVersion>> kTlsVersions = {{"TLS12", TlsVersion::k12}, {"TLS13", TlsVersion::k13}};
const std::vector<Choice<bool>> kBooleans = {{"true", true}, {"false", false}};
const std::vector<std::string> kCurves = {"X25519", "CurveP256", "CurveP384", "CurveP521"};

// The headers that may be set, with their allowed values; empty: any value.
const std::map<std::string, std::vector<std::string>> kHeaders = {{"Content-Security-Policy", {}},
                                                                  {"Strict-Transport-Security", {}},
                                                                  {"X-Content-Type-Options", {"nosniff"}},
                                                                  {"X-Frame-Options", {"deny", "sameorigin"}},
                                                                  {"X-XSS-Protection", {}}};

std::string Join(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all.append(all.empty() ? "" : ", ").append(name);
  return all;
}

std::string ProblemOfHash(const std::string& hash) {
  // "$2b$10$" and 53 characters of bcrypt's own base64.
  constexpr size_t kHashBytes = 60;
  constexpr std::string_view kDigits = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const bool good = hash.size() == kHashBytes && hash.substr(0, 2) == "$2" &&
                    std::string_view("aby").find(hash[2]) != std::string_view::npos && hash[3] == '$' &&
                    is_digit(hash[4]) && is_digit(hash[5]) && hash[6] == '$' &&
                    hash.find_first_not_of(kDigits, 7) == std::string::npos;
  // Do not quote the text: it may be a password.
  if (!good) return "expected a bcrypt hash ($2y$, $2b$ or $2a$), as htpasswd -nB makes them";
  const int cost = (hash[4] - '0') * 10 + (hash[5] - '0');
  if (cost >= kMinBcryptCost && cost <= kMaxBcryptCost) return "";
  return "the hash's cost is " + std::to_string(cost) + ", it must be from " + std::to_string(kMinBcryptCost) + " to " +
         std::to_string(kMaxBcryptCost);
}

bool IsPem(std::string_view text) { return text.find("-----BEGIN ") != std::string_view::npos; }

// True for a text that cannot be a path, and for the base64 body of a key (DER sequences begin with M).
bool IsNoPath(std::string_view text) {
  constexpr size_t kMaxPathBytes = 4096;
  constexpr size_t kMinKeyDigits = 64;  // of the shortest kind, Ed25519
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= ";
  return text.empty() || text.size() > kMaxPathBytes || text.find_first_of(std::string_view("\0\n", 2)) != text.npos ||
         (text.front() == 'M' && text.size() >= kMinKeyDigits && text.find_first_not_of(kDigits) == text.npos);
}

// Reads the sections. Errors never quote a key or a hash.
class Reader {
 public:
  Reader(const std::string& file, Checker& checker, WebConfig& config)
      : directory_(std::filesystem::path(file).parent_path()), checker_(checker), config_(config) {}

  void ReadDocument(const YAML::Node& document) {
    const auto section = [this](const char* name, void (Reader::*read)(const YAML::Node&, const std::string&)) {
      return Checker::Key{name,
                          [this, read](const YAML::Node& node, const std::string& path) { (this->*read)(node, path); }};
    };
    checker_.ReadMap(document, "",
                     {section("tls_server_config", &Reader::ReadTls), section("http_server_config", &Reader::ReadHttp),
                      section("basic_auth_users", &Reader::ReadUsers), section("rate_limit", &Reader::ReadRate)});
  }

 private:
  // The keys NAME_file (a path) and NAME (a PEM text).
  Checker::Key File(const std::string& name, std::string& target, const std::string& text) {
    return {name + "_file", [this, name, &target, &text](const YAML::Node& node, const std::string& path) {
              if (node.IsScalar() && IsPem(node.Scalar())) {
                return checker_.Add(node, path + ": expected a path, got a PEM text; use " + name);
              }
              if (!node.IsScalar()) return checker_.AddExpected(node, path, "a path");
              if (IsNoPath(node.Scalar())) return checker_.Add(node, path + ": expected a path, got another text");
              target = (directory_ / node.Scalar()).string();
              CheckOneOf(name, target, text);
            }};
  }
  Checker::Key Text(const std::string& name, std::string& target, const std::string& file) {
    return {name, [this, name, &target, &file](const YAML::Node& node, const std::string& path) {
              if (!node.IsScalar() || !IsPem(node.Scalar())) {
                return checker_.Add(node,
                                    path + ": expected a PEM text (-----BEGIN ...); " + name + "_file takes a path");
              }
              target = node.Scalar();
              CheckOneOf(name, file, target);
            }};
  }
  void CheckOneOf(const std::string& name, const std::string& file, const std::string& text) {
    if (file.empty() || text.empty()) return;
    checker_.Add(checker_.LastKey(), "tls_server_config: " + name + " and " + name + "_file exclude each other");
  }

  template <class T>
  Checker::Key OneOf(std::string name, const std::vector<Choice<T>>& choices, T& target) {
    return {std::move(name), [this, &choices, &target](const YAML::Node& node, const std::string& path) {
              std::vector<std::string> names;
              for (const Choice<T>& choice : choices) {
                if (node.IsScalar() && node.Scalar() == choice.name) return static_cast<void>(target = choice.value);
                names.emplace_back(choice.name);
              }
              checker_.AddExpected(node, path, "one of " + Join(names));
            }};
  }

  Checker::Key ListOf(std::string name, const std::vector<std::string>& choices, std::vector<std::string>& target) {
    const std::string expected = "one of " + Join(choices);
    const auto problem = [choices, expected](const std::string& text) -> std::optional<std::string> {
      if (std::find(choices.begin(), choices.end(), text) != choices.end()) return std::nullopt;
      return "expected " + expected + ", got " + Quoted(text);
    };
    return checker_.Texts(std::move(name), "names", expected, problem, target);
  }

  Checker::Key AllowedNames(std::vector<std::string>& target) {
    Checker::Key key = checker_.Texts(
        "client_allowed_sans", "names", "a DNS name, an IP or e-mail address or a URI",
        [](const std::string& /*text*/) { return std::nullopt; }, target);
    key.read = [this, read = std::move(key.read)](const YAML::Node& node, const std::string& path) {
      names_place_ = checker_.LastKey();
      if (!node.IsNull() && !(node.IsSequence() && node.size() == 0)) return read(node, path);
      checker_.Add(node, path + ": the list is empty, which would refuse every client");
    };
    return key;
  }

  void ReadTls(const YAML::Node& node, const std::string& path) {
    TlsConfig& tls = config_.tls.emplace();
    std::vector<std::string> suites;
    for (const CipherSuite& suite : KnownCipherSuites()) suites.emplace_back(suite.name);
    const size_t errors = checker_.Errors();
    const YAML::Mark place = checker_.LastKey();
    checker_.ReadMap(
        node, path,
        {File("cert", tls.cert_file, tls.cert), File("key", tls.key_file, tls.key),
         File("client_ca", tls.client_ca_file, tls.client_ca), Text("cert", tls.cert, tls.cert_file),
         Text("key", tls.key, tls.key_file), Text("client_ca", tls.client_ca, tls.client_ca_file),
         OneOf("client_auth_type", kClientAuths, tls.client_auth), AllowedNames(tls.client_allowed_sans),
         OneOf("min_version", kTlsVersions, tls.min_version), OneOf("max_version", kTlsVersions, tls.max_version),
         ListOf("cipher_suites", suites, tls.cipher_suites), ListOf("curve_preferences", kCurves, tls.curves),
         OneOf("prefer_server_cipher_suites", kBooleans, tls.prefer_server_cipher_suites)});
    if (checker_.Errors() != errors) return;
    if (node.IsNull() || node.size() == 0) return config_.tls.reset();
    const std::string problem = ProblemOfTls(tls);
    if (!problem.empty()) checker_.Add(place, path + ": " + problem);
    if (!tls.client_allowed_sans.empty() && tls.client_auth != ClientAuth::kRequireVerified) {
      checker_.Add(names_place_, path +
                                     ".client_allowed_sans: needs client_auth_type RequireAndVerifyClientCert, because "
                                     "an unverified certificate can hold any name");
    }
  }

  static std::string ProblemOfTls(const TlsConfig& tls) {
    if (tls.cert_file.empty() && tls.cert.empty()) return "cert_file is missing";
    if (tls.key_file.empty() && tls.key.empty()) return "key_file is missing";
    if (tls.min_version > tls.max_version) return "min_version is above max_version";
    const bool has_ca = !tls.client_ca_file.empty() || !tls.client_ca.empty();
    const bool verifies =
        tls.client_auth == ClientAuth::kVerifyIfGiven || tls.client_auth == ClientAuth::kRequireVerified;
    if (verifies && !has_ca) return "client_auth_type needs client_ca_file";
    if (has_ca && tls.client_auth == ClientAuth::kNone) {
      return (tls.client_ca.empty() ? "client_ca_file" : "client_ca") +
             std::string(" has no effect without client_auth_type");
    }
    return ProblemOfSuites(tls);
  }

  // GnuTLS combines every listed key exchange with every listed cipher. The list must therefore hold all combinations,
  // or GnuTLS would allow a suite that it does not name. TLS 1.3 has suites of its own, with the same ciphers.
  static std::string ProblemOfSuites(const TlsConfig& tls) {
    const auto listed = [&tls](const CipherSuite& suite) {
      return std::find(tls.cipher_suites.begin(), tls.cipher_suites.end(), suite.name) != tls.cipher_suites.end();
    };
    std::set<std::string_view> exchanges;
    std::set<std::pair<std::string_view, std::string_view>> ciphers;
    for (const CipherSuite& suite : KnownCipherSuites()) {
      if (!listed(suite)) continue;
      if (!suite.key_exchange.empty()) exchanges.insert(suite.key_exchange);
      ciphers.emplace(suite.cipher, suite.mac);
    }
    if (ciphers.empty()) return "";
    const bool has_k13 = std::any_of(ciphers.begin(), ciphers.end(), [](const auto& c) { return c.second == "AEAD"; });
    if (tls.min_version == TlsVersion::k13) return has_k13 ? "" : "cipher_suites has no suite of TLS 1.3";
    if (tls.max_version == TlsVersion::k12 && exchanges.empty()) return "cipher_suites has no suite of TLS 1.2";
    for (const CipherSuite& suite : KnownCipherSuites()) {
      if (!listed(suite) && exchanges.contains(suite.key_exchange) && ciphers.contains({suite.cipher, suite.mac})) {
        return "cipher_suites needs " + std::string(suite.name) +
               " too: GnuTLS combines each key exchange with each cipher";
      }
    }
    return "";
  }

  void ReadHttp(const YAML::Node& node, const std::string& path) {
    std::vector<Checker::Key> headers;
    headers.reserve(kHeaders.size());
    for (const auto& [name, choices] : kHeaders) headers.push_back(Header(name, choices));
    bool http2 = false;
    const Checker::Key flag = OneOf("http2", kBooleans, http2);
    const auto read_http2 = [this, &flag, &http2](const YAML::Node& value, const std::string& http2_path) {
      flag.read(value, http2_path);
      if (http2) checker_.Add(value, http2_path + ": the server speaks only HTTP/1.1; set false or remove the key");
    };
    checker_.ReadMap(node, path, {{"http2", read_http2}, checker_.Section("headers", headers, "header")});
  }

  Checker::Key Header(const std::string& name, const std::vector<std::string>& choices) {
    return {
        name, [this, name, &choices](const YAML::Node& value, const std::string& path) {
          const auto is_text = [](char c) { return c >= ' ' && c <= '~'; };
          if (!value.IsScalar() || !std::all_of(value.Scalar().begin(), value.Scalar().end(), is_text)) {
            checker_.AddExpected(value, path, "one line of printable ASCII");
          } else if (!choices.empty() && std::find(choices.begin(), choices.end(), value.Scalar()) == choices.end()) {
            checker_.AddExpected(value, path, "one of " + Join(choices));
          } else if (!value.Scalar().empty()) {
            config_.headers[name] = value.Scalar();
          }
        }};
  }

  void ReadUsers(const YAML::Node& node, const std::string& path) {
    checker_.ReadEntries(node, path, [&](const YAML::Node& key, const YAML::Node& value) {
      const std::string& name = key.Scalar();
      if (value.IsNull()) return checker_.Add(key, path + ": expected a name with a bcrypt hash");
      if (name.empty() || name.find(':') != std::string::npos) {
        return checker_.Add(key, path + ": a name must not be empty or contain a colon");
      }
      const std::string problem = ProblemOfHash(value.IsScalar() ? value.Scalar() : "");
      if (!problem.empty()) return checker_.Add(value, path + "." + Quoted(name) + ": " + problem);
      config_.users[name] = value.Scalar();
    });
  }

  void ReadRate(const YAML::Node& node, const std::string& path) {
    RateLimit rate;
    const size_t errors = checker_.Errors();
    const YAML::Mark place = checker_.LastKey();
    std::optional<std::chrono::nanoseconds> interval;
    checker_.ReadMap(node, path,
                     {checker_.Value("interval", "a duration such as 1s", &ParseGoDuration, interval),
                      checker_.Count("burst", 0, kMaxBurst, rate.burst)});
    if (checker_.Errors() != errors || node.IsNull() || node.size() == 0) return;
    if (!interval) {
      checker_.Add(place, path + ": interval is missing (0 disables the limit)");
    } else if (interval->count() != 0 && rate.burst == 0) {
      checker_.Add(place, path + ": burst must be 1 or more, else every request is refused");
    } else if (interval->count() != 0) {
      rate.interval = *interval;
      config_.rate_limit = rate;
    }
  }

  const std::filesystem::path directory_;
  Checker& checker_;
  WebConfig& config_;
  YAML::Mark names_place_;  // place of client_allowed_sans
};

}  // namespace

const std::vector<CipherSuite>& KnownCipherSuites() {
  static const std::vector<CipherSuite> suites = {
      {"TLS_AES_128_GCM_SHA256", "", "AES-128-GCM", "AEAD"},
      {"TLS_AES_256_GCM_SHA384", "", "AES-256-GCM", "AEAD"},
      {"TLS_CHACHA20_POLY1305_SHA256", "", "CHACHA20-POLY1305", "AEAD"},
      {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA", "AES-128-GCM", "AEAD"},
      {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA", "AES-128-GCM", "AEAD"},
      {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA", "AES-256-GCM", "AEAD"},
      {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA", "AES-256-GCM", "AEAD"},
      {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA", "CHACHA20-POLY1305", "AEAD"},
      {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA", "CHACHA20-POLY1305", "AEAD"},
      {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA", "AES-128-CBC", "SHA1"},
      {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA", "AES-128-CBC", "SHA1"},
      {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA", "AES-256-CBC", "SHA1"},
      {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA", "AES-256-CBC", "SHA1"},
  };
  return suites;
}

WebLoadResult ParseWebConfig(std::string_view text, const std::string& file) {
  WebLoadResult result;
  CheckDocument(text, file, result.errors, [&](const YAML::Node& document, Checker& checker) {
    Reader(file, checker, result.config).ReadDocument(document);
  });
  return result;
}

WebLoadResult LoadWebConfig(const std::string& path) {
  WebLoadResult result;
  if (const auto text = ReadConfigText(path, result.errors)) return ParseWebConfig(*text, path);
  return result;
}

}  // namespace cow::config
