#include "exporter/http/tls.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace cow::exporter {
namespace {

using config::TlsConfig;
using config::TlsVersion;

TEST(PriorityStringTest, Default) {
  EXPECT_EQ(PriorityString({}),
            "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:-CIPHER-ALL:-MAC-ALL:+AES-128-GCM:+AEAD:+AES-256-GCM:"
            "+CHACHA20-POLY1305:+ECDHE-ECDSA:+ECDHE-RSA:%SERVER_PRECEDENCE");
}

TEST(PriorityStringTest, Chosen) {
  TlsConfig config;
  config.min_version = TlsVersion::k13;
  config.cipher_suites = {"TLS_AES_256_GCM_SHA384"};
  config.curves = {"CurveP384", "X25519"};
  config.prefer_server_cipher_suites = false;
  EXPECT_EQ(PriorityString(config),
            "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:-CIPHER-ALL:-MAC-ALL:+AES-256-GCM:+AEAD:-GROUP-ALL:+GROUP-SECP384R1:"
            "+GROUP-X25519");
}

TEST(PriorityStringTest, GnutlsAcceptsAll) {
  for (const config::CipherSuite& suite : config::KnownCipherSuites()) {
    for (const TlsVersion version : {TlsVersion::k12, TlsVersion::k13}) {
      if (version == TlsVersion::k13 && suite.mac != "AEAD") continue;  // not in TLS 1.3
      TlsConfig config;
      config.min_version = version;
      config.cipher_suites = {std::string(suite.name)};
      config.curves = {"X25519", "CurveP256", "CurveP384", "CurveP521"};
      gnutls_priority_t priority = nullptr;
      EXPECT_EQ(gnutls_priority_init(&priority, PriorityString(config).c_str(), nullptr), 0) << PriorityString(config);
      gnutls_priority_deinit(priority);
    }
  }
}

// The error of an unusable configuration.
std::string ErrorOf(const TlsConfig& config, const config::TlsFiles& files = {}) {
  try {
    const Tls tls(config, files);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(TlsTest, NamesTheKeyOfABadText) {
  TlsConfig config;
  config.cert = "-----BEGIN CERTIFICATE-----\n";
  config.key = "-----BEGIN SECRET-----\n";
  const std::string error = ErrorOf(config);
  EXPECT_EQ(error.rfind("tls_server_config: cert with key: ", 0), 0U) << error;
  EXPECT_EQ(error.find("SECRET"), std::string::npos);
}

TEST(TlsTest, NamesTheFile) {
  TlsConfig config;
  config.cert_file = "/nonexistent/cert.pem";
  config.key_file = "/nonexistent/key.pem";
  config::TlsFiles files;
  EXPECT_EQ(ErrorOf(config, files), "tls_server_config: /nonexistent/cert.pem: was not read");
  files.texts = {{config.cert_file, "-----BEGIN CERTIFICATE-----\n"}, {config.key_file, "-----BEGIN SECRET-----\n"}};
  const std::string error = ErrorOf(config, files);
  EXPECT_EQ(error.rfind("tls_server_config: /nonexistent/cert.pem with /nonexistent/key.pem: ", 0), 0U) << error;
}

}  // namespace
}  // namespace cow::exporter
