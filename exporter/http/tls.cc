#include "exporter/http/tls.h"

#include <gnutls/x509.h>

#include <set>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "config/yaml_document.h"

namespace cow::exporter {
namespace {

using config::ClientAuth;
using config::TlsVersion;

[[noreturn]] void Fail(const std::string& what, const std::string& why) {
  throw std::runtime_error("tls_server_config: " + what + ": " + why);
}

void Check(int status, const std::string& what) {
  if (status < 0) Fail(what, gnutls_strerror(status));
}

// A text as GnuTLS takes it; it only reads there.
gnutls_datum_t Datum(std::string& text) {
  return {reinterpret_cast<unsigned char*>(text.data()), static_cast<unsigned>(text.size())};
}

std::string ReadFile(const std::string& path) {
  auto text = config::ReadSmallFile(path);
  if (!text) Fail(path, text.error());
  return *text;
}

std::string_view GroupName(std::string_view curve) {
  if (curve == "X25519") return "GROUP-X25519";
  if (curve == "CurveP256") return "GROUP-SECP256R1";
  return curve == "CurveP384" ? "GROUP-SECP384R1" : "GROUP-SECP521R1";
}

// A client's certificate, if it shows one, must be signed by the CA, be valid now, and be for clients.
int VerifyClient(gnutls_session_t session) {
  unsigned count = 0;
  if (gnutls_certificate_get_peers(session, &count) == nullptr || count == 0) return 0;  // a needed one is asked for
  std::string purpose = GNUTLS_KP_TLS_WWW_CLIENT;
  gnutls_typed_vdata_st data{};
  data.type = GNUTLS_DT_KEY_PURPOSE_OID;
  data.data = reinterpret_cast<unsigned char*>(purpose.data());
  unsigned status = 0;
  return gnutls_certificate_verify_peers(session, &data, 1, &status) < 0 || status != 0 ? -1 : 0;
}

}  // namespace

std::string PriorityString(const config::TlsConfig& config) {
  std::string text = "NORMAL:-VERS-ALL";
  if (config.max_version == TlsVersion::k13) text += ":+VERS-TLS1.3";
  if (config.min_version == TlsVersion::k12) text += ":+VERS-TLS1.2";

  // Without a list: those with forward secrecy and authenticated encryption.
  std::vector<std::string_view> parts;
  std::set<std::string_view> seen;
  const auto add = [&](std::string_view part) {
    if (!part.empty() && seen.insert(part).second) parts.push_back(part);
  };
  const auto add_suite = [&](const config::CipherSuite& suite) {
    add(suite.key_exchange);
    add(suite.cipher);
    add(suite.mac);
  };
  for (const config::CipherSuite& suite : config::KnownCipherSuites()) {
    if (config.cipher_suites.empty() && suite.mac == "AEAD") add_suite(suite);
  }
  for (const std::string& name : config.cipher_suites) {
    for (const config::CipherSuite& suite : config::KnownCipherSuites()) {
      if (suite.name == name) add_suite(suite);
    }
  }
  text += ":-KX-ALL:-CIPHER-ALL:-MAC-ALL";
  for (const std::string_view part : parts) text.append(":+").append(part);
  if (!config.curves.empty()) text += ":-GROUP-ALL";
  for (const std::string& curve : config.curves) text.append(":+").append(GroupName(curve));
  if (config.prefer_server_cipher_suites) text += ":%SERVER_PRECEDENCE";
  return text;
}

Tls::Tls(const config::TlsConfig& config) {
  try {
    Load(config);
  } catch (...) {
    if (priority_ != nullptr) gnutls_priority_deinit(priority_);
    if (credentials_ != nullptr) gnutls_certificate_free_credentials(credentials_);
    throw;
  }
}

Tls::~Tls() {
  gnutls_priority_deinit(priority_);
  gnutls_certificate_free_credentials(credentials_);
}

void Tls::Load(const config::TlsConfig& config) {
  Check(gnutls_certificate_allocate_credentials(&credentials_), "certificate");
  std::string certificate = ReadFile(config.cert_file);
  std::string key = ReadFile(config.key_file);
  const gnutls_datum_t certificate_datum = Datum(certificate);
  const gnutls_datum_t key_datum = Datum(key);
  const int status =
      gnutls_certificate_set_x509_key_mem(credentials_, &certificate_datum, &key_datum, GNUTLS_X509_FMT_PEM);
  Check(status, config.cert_file + " with " + config.key_file);

  if (!config.client_ca_file.empty()) {
    std::string authorities = ReadFile(config.client_ca_file);
    const gnutls_datum_t datum = Datum(authorities);
    const int count = gnutls_certificate_set_x509_trust_mem(credentials_, &datum, GNUTLS_X509_FMT_PEM);
    Check(count, config.client_ca_file);
    if (count == 0) Fail(config.client_ca_file, "no certificate in it");
  }
  if (config.client_auth == ClientAuth::kVerifyIfGiven || config.client_auth == ClientAuth::kRequireVerified) {
    gnutls_certificate_set_verify_function(credentials_, &VerifyClient);
  }
  if (config.client_auth == ClientAuth::kRequest || config.client_auth == ClientAuth::kVerifyIfGiven) {
    request_ = GNUTLS_CERT_REQUEST;
  } else if (config.client_auth != ClientAuth::kNone) {
    request_ = GNUTLS_CERT_REQUIRE;
  }
  Check(gnutls_priority_init(&priority_, PriorityString(config).c_str(), nullptr), "versions and suites");
}

void Tls::Apply(gnutls_session_t session) const {
  gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials_);
  gnutls_priority_set(session, priority_);
  gnutls_certificate_server_set_request(session, request_);
}

}  // namespace cow::exporter
