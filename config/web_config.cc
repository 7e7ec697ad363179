#include "config/web_config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>
#include <tuple>
#include <utility>

#include "config/hint.h"
#include "config/yaml_document.h"

namespace cow::config {
namespace {

// A check of a password can't be interrupted, and the program ends within a second.
constexpr int kMinBcryptCost = 4;
constexpr int kMaxBcryptCost = 13;

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

// The headers that may be set, and what they may be; nothing: anything.
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

std::string Describe(const YAML::Node& node) {
  if (node.IsScalar()) return Quoted(node.Scalar());
  if (node.IsSequence()) return "a list";
  return node.IsMap() ? "a map" : "nothing";
}

std::string ProblemOfHash(const std::string& hash) {
  // $2b$10$ and 53 characters of bcrypt's own base 64
  constexpr size_t kHashBytes = 60;
  constexpr std::string_view kDigits = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const bool good = hash.size() == kHashBytes && hash.substr(0, 2) == "$2" &&
                    std::string_view("aby").find(hash[2]) != std::string_view::npos && hash[3] == '$' &&
                    is_digit(hash[4]) && is_digit(hash[5]) && hash[6] == '$' &&
                    hash.find_first_not_of(kDigits, 7) == std::string::npos;
  // What stands there may be a password, so it is not shown.
  if (!good) return "expected a bcrypt hash ($2y$, $2b$ or $2a$), as htpasswd -nB makes them";
  const int cost = (hash[4] - '0') * 10 + (hash[5] - '0');
  if (cost >= kMinBcryptCost && cost <= kMaxBcryptCost) return "";
  return "the hash's cost is " + std::to_string(cost) + ", it must be from " + std::to_string(kMinBcryptCost) + " to " +
         std::to_string(kMaxBcryptCost);
}

// Walks the nodes of one document and collects what is wrong.
class Reader {
 public:
  Reader(const std::string& file, WebLoadResult& result)
      : file_(file), directory_(std::filesystem::path(file).parent_path()), result_(result) {}

  void ReadDocument(const YAML::Node& document) {
    WebConfig& config = result_.config;
    ReadMap(document, "the file",
            {{"tls_server_config", [&](const YAML::Node& node) { ReadTls(node, config.tls.emplace()); }},
             {"http_server_config", [&](const YAML::Node& node) { ReadHttp(node); }},
             {"basic_auth_users", [&](const YAML::Node& node) { ReadUsers(node); }}});
  }

  void Add(const YAML::Mark& mark, std::string message) {
    const bool known = !mark.is_null();
    result_.errors.push_back({file_, known ? mark.line + 1 : 1, known ? mark.column + 1 : 1, std::move(message)});
  }

 private:
  using Read = std::function<void(const YAML::Node&)>;

  // At a value; one that is missing has no place of its own, so its key's counts.
  void AddAt(const YAML::Node& node, std::string message) {
    Add(node.IsNull() ? last_key_ : node.Mark(), std::move(message));
  }

  // Each key at most once. An empty section is one with defaults.
  void ForEachEntry(const YAML::Node& node, const std::string& what,
                    const std::function<void(const YAML::Node& key, const YAML::Node& value)>& call) {
    if (node.IsNull()) return;
    if (!node.IsMap()) return AddAt(node, what + ": expected a map of keys, got " + Describe(node));
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        AddAt(entry.first, what + ": a key must be a plain name, got " + Describe(entry.first));
      } else if (!seen.insert(entry.first.Scalar()).second) {
        AddAt(entry.first, what + ": duplicate key " + Quoted(entry.first.Scalar()));
      } else {
        last_key_ = entry.first.Mark();
        call(entry.first, entry.second);
      }
    }
  }

  void ReadMap(const YAML::Node& node, const std::string& what, const std::vector<std::pair<std::string, Read>>& keys) {
    ForEachEntry(node, what, [&](const YAML::Node& key, const YAML::Node& value) {
      const auto found =
          std::find_if(keys.begin(), keys.end(), [&key](const auto& known) { return known.first == key.Scalar(); });
      if (found != keys.end()) return found->second(value);
      std::vector<std::string> names;
      names.reserve(keys.size());
      for (const auto& known : keys) names.push_back(known.first);
      AddAt(key, what + ": unknown key " + Quoted(key.Scalar()) + "; " + Hint(key.Scalar(), names));
    });
  }

  Read Path(const std::string& what, std::string& target) {
    return [this, what, &target](const YAML::Node& node) {
      if (!node.IsScalar() || node.Scalar().empty() || node.Scalar().find('\0') != std::string::npos) {
        return AddAt(node, what + ": expected a path, got " + Describe(node));
      }
      target = (directory_ / node.Scalar()).string();
    };
  }

  template <class T>
  Read OneOf(const std::string& what, const std::vector<Choice<T>>& choices, T& target) {
    return [this, what, &choices, &target](const YAML::Node& node) {
      std::vector<std::string> names;
      for (const Choice<T>& choice : choices) {
        if (node.IsScalar() && node.Scalar() == choice.name) target = choice.value;
        if (node.IsScalar() && node.Scalar() == choice.name) return;
        names.emplace_back(choice.name);
      }
      AddAt(node, what + ": expected one of " + Join(names) + ", got " + Describe(node));
    };
  }

  Read ListOf(const std::string& what, const std::vector<std::string>& choices, std::vector<std::string>& target) {
    return [this, what, choices, &target](const YAML::Node& node) {
      if (node.IsNull()) return;
      if (!node.IsSequence()) return AddAt(node, what + ": expected a list, got " + Describe(node));
      for (const YAML::Node& entry : node) {
        if (entry.IsScalar() && std::find(choices.begin(), choices.end(), entry.Scalar()) != choices.end()) {
          target.push_back(entry.Scalar());
        } else {
          AddAt(entry, what + ": expected one of " + Join(choices) + ", got " + Describe(entry));
        }
      }
    };
  }

  void ReadTls(const YAML::Node& node, TlsConfig& tls) {
    const std::string what = "tls_server_config";
    const auto name = [&what](const char* key) { return what + "." + key; };
    std::vector<std::string> suites;
    for (const CipherSuite& suite : KnownCipherSuites()) suites.emplace_back(suite.name);
    const size_t errors = result_.errors.size();
    const YAML::Mark place = last_key_;
    ReadMap(node, what,
            {{"cert_file", Path(name("cert_file"), tls.cert_file)},
             {"key_file", Path(name("key_file"), tls.key_file)},
             {"client_ca_file", Path(name("client_ca_file"), tls.client_ca_file)},
             {"client_auth_type", OneOf(name("client_auth_type"), kClientAuths, tls.client_auth)},
             {"min_version", OneOf(name("min_version"), kTlsVersions, tls.min_version)},
             {"max_version", OneOf(name("max_version"), kTlsVersions, tls.max_version)},
             {"cipher_suites", ListOf(name("cipher_suites"), suites, tls.cipher_suites)},
             {"curve_preferences", ListOf(name("curve_preferences"), kCurves, tls.curves)},
             {"prefer_server_cipher_suites",
              OneOf(name("prefer_server_cipher_suites"), kBooleans, tls.prefer_server_cipher_suites)}});
    if (result_.errors.size() != errors) return;
    if (node.IsNull() || node.size() == 0) {
      result_.config.tls.reset();
      return;
    }
    const std::string problem = ProblemOfTls(tls);
    if (!problem.empty()) Add(place, what + ": " + problem);
  }

  static std::string ProblemOfTls(const TlsConfig& tls) {
    if (tls.cert_file.empty()) return "cert_file is missing";
    if (tls.key_file.empty()) return "key_file is missing";
    if (tls.min_version > tls.max_version) return "min_version is above max_version";
    const bool verifies =
        tls.client_auth == ClientAuth::kVerifyIfGiven || tls.client_auth == ClientAuth::kRequireVerified;
    if (verifies && tls.client_ca_file.empty()) return "client_auth_type needs client_ca_file";
    if (!tls.client_ca_file.empty() && tls.client_auth == ClientAuth::kNone) {
      return "client_ca_file has no effect without client_auth_type";
    }
    return ProblemOfSuites(tls);
  }

  // GnuTLS knows key exchanges and ciphers, not pairs of them: a list must hold every pair of what is in it, so that
  // nothing is allowed that was not named. TLS 1.3 has suites of its own, with the same ciphers.
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
    if (tls.min_version == TlsVersion::k13) return has_k13 ? "" : "cipher_suites has none that TLS 1.3 knows";
    if (tls.max_version == TlsVersion::k12 && exchanges.empty()) return "cipher_suites has none that TLS 1.2 knows";
    for (const CipherSuite& suite : KnownCipherSuites()) {
      if (!listed(suite) && exchanges.contains(suite.key_exchange) && ciphers.contains({suite.cipher, suite.mac})) {
        return "cipher_suites can't be had without " + std::string(suite.name) +
               ": each key exchange goes with each cipher";
      }
    }
    return "";
  }

  void ReadHttp(const YAML::Node& node) {
    ReadMap(node, "http_server_config",
            {{"http2", OneOf("http_server_config.http2", kBooleans, unused_)},
             {"headers", [this](const YAML::Node& headers) { ReadHeaders(headers); }}});
  }

  void ReadHeaders(const YAML::Node& node) {
    const std::string what = "http_server_config.headers";
    ForEachEntry(node, what, [&](const YAML::Node& key, const YAML::Node& value) {
      const auto known = kHeaders.find(key.Scalar());
      if (known == kHeaders.end()) {
        std::vector<std::string> names;
        names.reserve(kHeaders.size());
        for (const auto& [name, choices] : kHeaders) names.push_back(name);
        return AddAt(key, what + ": unknown header " + Quoted(key.Scalar()) + "; " + Hint(key.Scalar(), names));
      }
      const std::vector<std::string>& choices = known->second;
      const auto is_text = [](char c) { return c >= ' ' && c <= '~'; };
      if (!value.IsScalar() || !std::all_of(value.Scalar().begin(), value.Scalar().end(), is_text)) {
        AddAt(value, what + "." + known->first + ": expected a text of one line, got " + Describe(value));
      } else if (!choices.empty() && std::find(choices.begin(), choices.end(), value.Scalar()) == choices.end()) {
        AddAt(value, what + "." + known->first + ": expected one of " + Join(choices) + ", got " + Describe(value));
      } else if (!value.Scalar().empty()) {
        result_.config.headers[known->first] = value.Scalar();
      }
    });
  }

  void ReadUsers(const YAML::Node& node) {
    const std::string what = "basic_auth_users";
    ForEachEntry(node, what, [&](const YAML::Node& key, const YAML::Node& value) {
      const std::string& name = key.Scalar();
      if (name.empty() || name.find(':') != std::string::npos) {
        return AddAt(key, what + ": a name must not be empty and must not hold a colon");
      }
      const std::string problem = ProblemOfHash(value.IsScalar() ? value.Scalar() : "");
      if (!problem.empty()) return AddAt(value, what + "." + Quoted(name) + ": " + problem);
      result_.config.users[name] = value.Scalar();
    });
  }

  const std::string& file_;
  const std::filesystem::path directory_;
  WebLoadResult& result_;
  YAML::Mark last_key_;
  bool unused_ = true;  // of http2: only HTTP/1.1 is spoken
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
  Reader reader(file, result);
  try {
    reader.ReadDocument(YAML::Load(std::string(text)));
    if (const auto second = FindSecondDocument(text)) {
      YAML::Mark place;
      place.line = second->first;
      place.column = second->second;
      reader.Add(place, "a second document: one file holds one configuration");
    }
  } catch (const YAML::Exception& error) {
    reader.Add(error.mark, "not valid YAML: " + error.msg);
  }
  std::stable_sort(result.errors.begin(), result.errors.end(), [](const ConfigError& a, const ConfigError& b) {
    return std::tie(a.line, a.column) < std::tie(b.line, b.column);
  });
  return result;
}

WebLoadResult LoadWebConfig(const std::string& path) {
  const auto text = ReadSmallFile(path);
  if (text) return ParseWebConfig(*text, path);
  WebLoadResult result;
  result.errors.push_back({path, 0, 0, text.error()});
  return result;
}

}  // namespace cow::config
