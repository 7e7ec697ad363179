#include "exporter/http/tls.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <memory>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace cow::exporter {
namespace {

using config::ClientAuth;
using config::TlsVersion;

[[noreturn]] void FailTls(const std::string& what, const std::string& why) {
  throw std::runtime_error("tls_server_config: " + what + ": " + why);
}

void Check(int status, const std::string& what) {
  if (status < 0) FailTls(what, gnutls_strerror(status));
}

std::string_view GroupName(std::string_view curve) {
  if (curve == "X25519") return "GROUP-X25519";
  if (curve == "CurveP256") return "GROUP-SECP256R1";
  return curve == "CurveP384" ? "GROUP-SECP384R1" : "GROUP-SECP521R1";
}

// A PEM text from a file or inline, with its name for errors.
struct Part {
  Part(const char* key, const std::string& file, const std::string& inline_text, const config::TlsFiles& files)
      : name(file.empty() ? key : file), text(file.empty() ? inline_text : Find(files, file)) {}

  static const std::string& Find(const config::TlsFiles& files, const std::string& file) {
    const auto found = files.texts.find(file);
    if (found == files.texts.end()) FailTls(file, "was not read");
    return found->second;
  }
  // GnuTLS only reads the text, although its type is not const.
  [[nodiscard]] gnutls_datum_t Datum() const {
    auto* bytes = reinterpret_cast<unsigned char*>(const_cast<char*>(text.data()));  // NOLINT
    return {bytes, static_cast<unsigned>(text.size())};
  }

  const std::string name;
  const std::string& text;
};

using Certificate = std::unique_ptr<gnutls_x509_crt_int, decltype(&gnutls_x509_crt_deinit)>;

Certificate Import(const gnutls_datum_t& der) {
  gnutls_x509_crt_t certificate = nullptr;
  if (gnutls_x509_crt_init(&certificate) < 0) return {nullptr, &gnutls_x509_crt_deinit};
  Certificate owner(certificate, &gnutls_x509_crt_deinit);
  if (gnutls_x509_crt_import(certificate, &der, GNUTLS_X509_FMT_DER) < 0) owner.reset();
  return owner;
}

// GnuTLS's description of why a certificate chain is refused.
std::string ReasonOf(unsigned status) {
  gnutls_datum_t text{};
  if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) < 0) return "not verified";
  std::string reason(reinterpret_cast<const char*>(text.data), text.size);
  gnutls_free(text.data);
  while (!reason.empty() && (reason.back() == ' ' || reason.back() == '.' || reason.back() == '\0')) reason.pop_back();
  return reason;
}

std::string FormatAddress(int family, const void* bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const char* formatted = inet_ntop(family, bytes, text.data(), text.size());
  return formatted == nullptr ? "" : formatted;
}

// Formats an address of 4 or 16 bytes, as certificates store it. Converts an IPv4-mapped IPv6 address to IPv4.
std::string AddressText(std::string_view bytes) {
  constexpr std::string_view kMapped("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
  if (bytes.size() == 16 && bytes.substr(0, kMapped.size()) == kMapped) bytes.remove_prefix(kMapped.size());
  if (bytes.size() == 4) return FormatAddress(AF_INET, bytes.data());
  return bytes.size() == 16 ? FormatAddress(AF_INET6, bytes.data()) : "";
}

// Rewrites an IP address in its canonical form; returns other names unchanged.
std::string CanonicalName(const std::string& name) {
  std::array<char, sizeof(in6_addr)> bytes{};
  for (const auto& [family, size] : {std::pair(AF_INET, sizeof(in_addr)), std::pair(AF_INET6, sizeof(in6_addr))}) {
    if (inet_pton(family, name.c_str(), bytes.data()) == 1) return AddressText({bytes.data(), size});
  }
  return name;
}

}  // namespace

std::vector<std::string> SubjectAlternativeNames(gnutls_x509_crt_t certificate) {
  std::vector<std::string> names;
  for (unsigned i = 0;; ++i) {
    std::string value(256, '\0');
    size_t size = value.size();
    unsigned type = 0;
    int status = gnutls_x509_crt_get_subject_alt_name2(certificate, i, value.data(), &size, &type, nullptr);
    if (status == GNUTLS_E_SHORT_MEMORY_BUFFER) {
      value.resize(size);
      status = gnutls_x509_crt_get_subject_alt_name2(certificate, i, value.data(), &size, &type, nullptr);
    }
    if (status == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) return names;
    if (status == GNUTLS_E_X509_UNKNOWN_SAN) continue;
    if (status < 0) return {};  // malformed: trust none of its names
    value.resize(size);
    if (type == GNUTLS_SAN_IPADDRESS) value = AddressText(value);
    const bool known = type == GNUTLS_SAN_IPADDRESS || type == GNUTLS_SAN_DNSNAME || type == GNUTLS_SAN_RFC822NAME ||
                       type == GNUTLS_SAN_URI;
    if (known && !value.empty()) names.push_back(std::move(value));
  }
}

std::string PriorityString(const config::TlsConfig& config) {
  std::string text = "NORMAL:-VERS-ALL";
  if (config.max_version == TlsVersion::k13) text += ":+VERS-TLS1.3";
  if (config.min_version == TlsVersion::k12) text += ":+VERS-TLS1.2";

  // The default: suites with forward secrecy and authenticated encryption.
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

Tls::Tls(const config::TlsConfig& config, const config::TlsFiles& files, OnRefused on_refused)
    : on_refused_(std::move(on_refused)) {
  gnutls_certificate_credentials_t credentials = nullptr;
  Check(gnutls_certificate_allocate_credentials(&credentials), "certificate");
  credentials_.reset(credentials);
  const Part certificate("cert", config.cert_file, config.cert, files);
  const Part key("key", config.key_file, config.key, files);
  const gnutls_datum_t certificate_datum = certificate.Datum();
  const gnutls_datum_t key_datum = key.Datum();
  Check(gnutls_certificate_set_x509_key_mem(credentials, &certificate_datum, &key_datum, GNUTLS_X509_FMT_PEM),
        certificate.name + " with " + key.name);

  if (!config.client_ca_file.empty() || !config.client_ca.empty()) {
    const Part authorities("client_ca", config.client_ca_file, config.client_ca, files);
    const gnutls_datum_t datum = authorities.Datum();
    const int count = gnutls_certificate_set_x509_trust_mem(credentials, &datum, GNUTLS_X509_FMT_PEM);
    Check(count, authorities.name);
    if (count == 0) FailTls(authorities.name, "no certificate in it");
  }
  // client_allowed_sans requires verification: an unverified certificate can hold any name.
  const bool verifies = config.client_auth == ClientAuth::kVerifyIfGiven ||
                        config.client_auth == ClientAuth::kRequireVerified || !config.client_allowed_sans.empty();
  for (const std::string& name : config.client_allowed_sans) allowed_names_.insert(CanonicalName(name));
  if (verifies) gnutls_certificate_set_verify_function(credentials, &VerifyClient);
  if (config.client_auth == ClientAuth::kRequest || config.client_auth == ClientAuth::kVerifyIfGiven) {
    request_ = GNUTLS_CERT_REQUEST;
  } else if (config.client_auth != ClientAuth::kNone) {
    request_ = GNUTLS_CERT_REQUIRE;
  }
  gnutls_priority_t priority = nullptr;
  Check(gnutls_priority_init(&priority, PriorityString(config).c_str(), nullptr), "versions and suites");
  priority_.reset(priority);
}

void Tls::Apply(gnutls_session_t session) const {
  gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials_.get());
  gnutls_priority_set(session, priority_.get());
  gnutls_certificate_server_set_request(session, request_);
  // libmicrohttpd uses the session pointer. The pointer of the session cache is free, because there is no cache.
  gnutls_db_set_ptr(session, const_cast<Tls*>(this));  // NOLINT(cppcoreguidelines-pro-type-const-cast)
}

int Tls::VerifyClient(gnutls_session_t session) {
  const auto& tls = *static_cast<const Tls*>(gnutls_db_get_ptr(session));
  try {
    const std::string problem = tls.CheckClient(session);
    if (problem.empty()) return 0;
    if (tls.on_refused_) tls.on_refused_(problem);
  } catch (const std::exception&) {  // no memory; exceptions must not enter GnuTLS
  }
  return -1;
}

std::string Tls::CheckClient(gnutls_session_t session) const {
  unsigned count = 0;
  const gnutls_datum_t* chain = gnutls_certificate_get_peers(session, &count);
  if (chain == nullptr || count == 0) return "";  // if a certificate is required, GnuTLS refuses the client
  std::string purpose = GNUTLS_KP_TLS_WWW_CLIENT;
  gnutls_typed_vdata_st data{};
  data.type = GNUTLS_DT_KEY_PURPOSE_OID;
  data.data = reinterpret_cast<unsigned char*>(purpose.data());
  unsigned status = 0;
  const int error = gnutls_certificate_verify_peers(session, &data, 1, &status);
  if (error < 0) return gnutls_strerror(error);
  if (status != 0) return ReasonOf(status);
  if (allowed_names_.empty()) return "";
  const Certificate certificate = Import(*chain);
  if (!certificate) return "the certificate can't be read";
  const std::vector<std::string> names = SubjectAlternativeNames(certificate.get());
  const auto allowed = [this](const std::string& name) { return allowed_names_.contains(name); };
  if (std::any_of(names.begin(), names.end(), allowed)) return "";
  std::string problem = "none of its names is in client_allowed_sans";
  for (const std::string& name : names) problem.append(&name == &names.front() ? ": " : ", ").append(name);
  return problem;
}

}  // namespace cow::exporter
