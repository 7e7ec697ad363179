// TLS for connections, by GnuTLS: a certificate with its key, which versions and suites are spoken, and whether clients
// must show a certificate.
//
// Immutable; any thread.
#pragma once

#include <gnutls/gnutls.h>

#include <string>

#include "config/web_config.h"

namespace cow::exporter {

// The versions, suites and groups as a priority string of GnuTLS.
std::string PriorityString(const config::TlsConfig& config);

class Tls {
 public:
  // Reads the files. Throws std::runtime_error with a message that names the file.
  explicit Tls(const config::TlsConfig& config);
  ~Tls();
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  // For a session before its handshake, which must not outlive this.
  void Apply(gnutls_session_t session) const;

 private:
  void Load(const config::TlsConfig& config);

  gnutls_certificate_credentials_t credentials_ = nullptr;
  gnutls_priority_t priority_ = nullptr;
  gnutls_certificate_request_t request_ = GNUTLS_CERT_IGNORE;
};

}  // namespace cow::exporter
