// The web configuration file in the format of Prometheus' exporter-toolkit: TLS, client certificates, users, headers
// and a rate limit. Every key of that format is applied or rejected, never ignored.
//
// Loading checks the whole file and reports all errors at once, with line and column. It opens no certificate. Throws
// only bad_alloc. Any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace cow::config {

enum class TlsVersion { k12, k13 };

enum class ClientAuth {
  kNone,            // NoClientCert
  kRequest,         // RequestClientCert: request it, neither require nor verify it
  kRequireAny,      // RequireAnyClientCert: require it, do not verify it
  kVerifyIfGiven,   // VerifyClientCertIfGiven
  kRequireVerified  // RequireAndVerifyClientCert
};

struct TlsConfig {
  // For each pair, one is set: a path, absolute or relative to the working directory, or a PEM text.
  std::string cert_file;
  std::string cert;
  std::string key_file;
  std::string key;
  std::string client_ca_file;  // optional
  std::string client_ca;
  ClientAuth client_auth = ClientAuth::kNone;
  // A client certificate must have one of these names; needs kRequireVerified. Empty: accept any name.
  std::vector<std::string> client_allowed_sans;
  TlsVersion min_version = TlsVersion::k12;
  TlsVersion max_version = TlsVersion::k13;
  std::vector<std::string> cipher_suites;  // IANA names; empty: the default
  std::vector<std::string> curves;         // CurveP256, CurveP384, CurveP521, X25519; empty: the default
  bool prefer_server_cipher_suites = true;
};

// A token bucket of `burst` requests; each `interval` adds one.
struct RateLimit {
  std::chrono::nanoseconds interval{0};
  size_t burst = 0;

  bool operator==(const RateLimit&) const = default;
};

struct WebConfig {
  std::optional<TlsConfig> tls;                // none: no TLS
  std::map<std::string, std::string> headers;  // of every response
  std::map<std::string, std::string> users;    // bcrypt hash by name; empty: no authentication
  std::optional<RateLimit> rate_limit;         // none: no limit
};

struct WebLoadResult {
  WebConfig config;  // valid only if there are no errors
  std::vector<ConfigError> errors;
};

// `file` appears in errors; relative paths in the text are relative to its directory.
WebLoadResult ParseWebConfig(std::string_view text, const std::string& file);
// Rejects files larger than 1 MiB and files that are not regular.
WebLoadResult LoadWebConfig(const std::string& path);

// A cipher suite that cipher_suites may list, in the terms of GnuTLS.
struct CipherSuite {
  std::string_view name;          // IANA's
  std::string_view key_exchange;  // as in a priority string; empty for TLS 1.3
  std::string_view cipher;
  std::string_view mac;
};
const std::vector<CipherSuite>& KnownCipherSuites();

}  // namespace cow::config
