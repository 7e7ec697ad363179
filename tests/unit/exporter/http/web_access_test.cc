#include "exporter/http/web_access.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/null_sink.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

namespace cow::exporter {
namespace {

std::string Indented(const gnutls_datum_t& pem) {
  std::string text = "    ";
  for (unsigned i = 0; i < pem.size; ++i) {
    text += static_cast<char>(pem.data[i]);
    if (pem.data[i] == '\n') text += "    ";
  }
  return text;
}

// A self-signed certificate and its key in tls_server_config.
std::string TlsSection() {
  gnutls_x509_privkey_t key = nullptr;
  gnutls_x509_privkey_init(&key);
  gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
  gnutls_x509_crt_t certificate = nullptr;
  gnutls_x509_crt_init(&certificate);
  gnutls_x509_crt_set_version(certificate, 3);
  gnutls_x509_crt_set_serial(certificate, "1", 1);
  gnutls_x509_crt_set_activation_time(certificate, std::time(nullptr));
  gnutls_x509_crt_set_expiration_time(certificate, std::time(nullptr) + 3600);
  gnutls_x509_crt_set_dn(certificate, "CN=x", nullptr);
  gnutls_x509_crt_set_key(certificate, key);
  EXPECT_EQ(gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256, 0), 0);
  gnutls_datum_t key_pem{};
  gnutls_datum_t certificate_pem{};
  EXPECT_EQ(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem), 0);
  EXPECT_EQ(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &certificate_pem), 0);
  std::string text =
      "tls_server_config:\n  cert: |\n" + Indented(certificate_pem) + "\n  key: |\n" + Indented(key_pem) + "\n";
  gnutls_free(key_pem.data);
  gnutls_free(certificate_pem.data);
  gnutls_x509_crt_deinit(certificate);
  gnutls_x509_privkey_deinit(key);
  return text;
}

class WebAccessTest : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }

  // Replaces the file by another one.
  void Write(const std::string& text) const {
    const std::string next = path_.string() + ".new";
    std::ofstream(next) << text;
    std::filesystem::rename(next, path_);
  }

  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / ("cow_web_access_" + std::to_string(getpid()) + ".yml");
  Log log_{LogLevel::kInfo, LogFormat::kLogfmt, std::make_shared<spdlog::sinks::null_sink_mt>()};
};

TEST_F(WebAccessTest, ErasesThePrivateKey) {
  const std::string text = TlsSection();
  Write(text);
  WebAccess access(path_, log_);
  ASSERT_TRUE(access.Rules()->tls);
  EXPECT_EQ(access.Rules()->config.tls->key, "");
  Write(text + "http_server_config: {headers: {X-Frame-Options: deny}}\n");
  EXPECT_EQ(access.Rules()->config.headers.size(), 1U);
  EXPECT_EQ(access.Rules()->config.tls->key, "");
}

TEST_F(WebAccessTest, HealthProbesAreNotLimited) {
  Write("rate_limit: {interval: 1h, burst: 1}\n");
  WebAccess access(path_, log_);
  HttpRequest probe;
  probe.path = "/-/healthy";
  HttpRequest guess = probe;
  guess.headers["authorization"] = "Basic eDp4";
  HttpRequest scrape;
  scrape.path = "/metrics";
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(access.Check(probe));
  EXPECT_FALSE(access.Check(scrape));
  for (const HttpRequest& counted : {scrape, guess}) {
    const auto refusal = access.Check(counted);
    ASSERT_TRUE(refusal);
    EXPECT_EQ(refusal->status, 429U);
  }
  EXPECT_FALSE(access.Check(probe));
}

}  // namespace
}  // namespace cow::exporter
