// The web configuration file, in the format of Prometheus' exporter-toolkit: TLS, client certificates, users, headers,
// a limit of requests. A key of that format is honoured or refused, never ignored.
//
// Loading checks the whole file and reports every error at once, with line and column. It opens no certificate. Throws
// nothing but bad_alloc. The structs are plain values; any thread.
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
  kRequest,         // RequestClientCert: asked for, neither needed nor verified
  kRequireAny,      // RequireAnyClientCert: needed, not verified
  kVerifyIfGiven,   // VerifyClientCertIfGiven
  kRequireVerified  // RequireAndVerifyClientCert
};

struct TlsConfig {
  // Each in a file, whose path is absolute or relative to the working directory, or as a PEM text; the other is empty.
  std::string cert_file;
  std::string cert;
  std::string key_file;
  std::string key;
  std::string client_ca_file;  // both empty: none
  std::string client_ca;
  ClientAuth client_auth = ClientAuth::kNone;
  // One of them must be a client certificate's, which then is verified (kRequireVerified); empty: any will do.
  std::vector<std::string> client_allowed_sans;
  TlsVersion min_version = TlsVersion::k12;
  TlsVersion max_version = TlsVersion::k13;
  std::vector<std::string> cipher_suites;  // by their IANA names; empty: the default
  std::vector<std::string> curves;         // CurveP256, CurveP384, CurveP521, X25519; empty: the default
  bool prefer_server_cipher_suites = true;
};

// A token bucket: it holds `burst` requests, and one comes back each `interval`.
struct RateLimit {
  std::chrono::nanoseconds interval{0};
  size_t burst = 0;

  bool operator==(const RateLimit&) const = default;
};

struct WebConfig {
  std::optional<TlsConfig> tls;                // none: no TLS
  std::map<std::string, std::string> headers;  // of every answer
  std::map<std::string, std::string> users;    // bcrypt hash by name; none: everybody is let in
  std::optional<RateLimit> rate_limit;         // none: no limit
};

struct WebLoadResult {
  WebConfig config;  // to be used only if there are no errors
  std::vector<ConfigError> errors;
};

// `file` is named in errors, and relative paths in the text are relative to its directory.
WebLoadResult ParseWebConfig(std::string_view text, const std::string& file);
// Files of more than 1 MiB are refused.
WebLoadResult LoadWebConfig(const std::string& path);

// The suites that a list may name, as GnuTLS puts them together.
struct CipherSuite {
  std::string_view name;          // IANA's
  std::string_view key_exchange;  // as in a priority string; empty: TLS 1.3, which knows no such thing
  std::string_view cipher;
  std::string_view mac;
};
const std::vector<CipherSuite>& KnownCipherSuites();

}  // namespace cow::config
