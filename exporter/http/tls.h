// Configures TLS sessions of GnuTLS: certificate and key, versions, cipher suites, and client certificates.
//
// Immutable; any thread.
#pragma once

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "config/tls_files.h"
#include "config/web_config.h"

namespace cow::exporter {

// Writes versions, cipher suites and curves as a priority string of GnuTLS.
std::string PriorityString(const config::TlsConfig& config);

// The names that client_allowed_sans is compared with: DNS names, IP and e-mail addresses, URIs. Empty if the extension
// is malformed.
std::vector<std::string> SubjectAlternativeNames(gnutls_x509_crt_t certificate);

class Tls {
 public:
  // Receives the reason why a client certificate was refused. Runs in the connection's thread.
  using OnRefused = std::function<void(const std::string& reason)>;

  // `files`: the files that `config` names. Opens no file. Throws std::runtime_error with a message that names the
  // file, or the key of an inline text.
  Tls(const config::TlsConfig& config, const config::TlsFiles& files, OnRefused on_refused = {});
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  // Call before the handshake. The session must not outlive this object.
  void Apply(gnutls_session_t session) const;

 private:
  struct Free {
    void operator()(gnutls_certificate_credentials_t credentials) const {
      gnutls_certificate_free_credentials(credentials);
    }
    void operator()(gnutls_priority_t priority) const { gnutls_priority_deinit(priority); }
  };

  static int VerifyClient(gnutls_session_t session);
  // Checks the client's certificate, if any: its signature, validity, purpose and names. Returns what is wrong, or an
  // empty text.
  [[nodiscard]] std::string CheckClient(gnutls_session_t session) const;

  const OnRefused on_refused_;
  std::set<std::string, std::less<>> allowed_names_;  // empty: any
  std::unique_ptr<std::remove_pointer_t<gnutls_certificate_credentials_t>, Free> credentials_;
  std::unique_ptr<std::remove_pointer_t<gnutls_priority_t>, Free> priority_;
  gnutls_certificate_request_t request_ = GNUTLS_CERT_IGNORE;
};

}  // namespace cow::exporter
