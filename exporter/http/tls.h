// TLS for connections, by GnuTLS: a certificate with its key, which versions and suites are spoken, and whether clients
// must show a certificate.
//
// Immutable; any thread.
#pragma once

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "config/web_config.h"

namespace cow::exporter {

// The versions, suites and groups as a priority string of GnuTLS.
std::string PriorityString(const config::TlsConfig& config);

// The names of a certificate that client_allowed_sans is held against: DNS names, addresses of IP and e-mail, URIs.
std::vector<std::string> SubjectAlternativeNames(gnutls_x509_crt_t certificate);

class Tls {
 public:
  // Told why a client's certificate was refused, in the thread of its connection.
  using OnRefused = std::function<void(const std::string& reason)>;

  // Reads the files. Throws std::runtime_error with a message that names the file, or the key of an inline text.
  explicit Tls(const config::TlsConfig& config, OnRefused on_refused = {});
  ~Tls();
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  // For a session before its handshake, which must not outlive this.
  void Apply(gnutls_session_t session) const;

 private:
  void Load(const config::TlsConfig& config);
  static int VerifyClient(gnutls_session_t session);
  // A client's certificate, if it shows one: it must be signed by the CA, be valid now, and be for clients; and it must
  // have a name that is allowed. Empty if nothing is wrong.
  [[nodiscard]] std::string ProblemOfClient(gnutls_session_t session) const;

  const OnRefused on_refused_;
  std::set<std::string, std::less<>> allowed_names_;  // empty: any
  gnutls_certificate_credentials_t credentials_ = nullptr;
  gnutls_priority_t priority_ = nullptr;
  gnutls_certificate_request_t request_ = GNUTLS_CERT_IGNORE;
};

}  // namespace cow::exporter
