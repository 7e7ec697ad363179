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
  WebFilesReader reader_{path_};
  Log log_{LogLevel::kInfo, LogFormat::kLogfmt, std::make_shared<spdlog::sinks::null_sink_mt>()};
};

TEST_F(WebAccessTest, ErasesThePrivateKey) {
  const std::string text = TlsSection();
  Write(text);
  WebAccess access(reader_.Read(), log_);
  ASSERT_TRUE(access.Rules()->tls);
  EXPECT_EQ(access.Rules()->config.tls->key, "");
  Write(text + "http_server_config: {headers: {X-Frame-Options: deny}}\n");
  EXPECT_TRUE(reader_.Changed());
  EXPECT_TRUE(access.Update(reader_.Read()));
  EXPECT_FALSE(reader_.Changed());
  EXPECT_EQ(access.Rules()->config.headers.size(), 1U);
  EXPECT_EQ(access.Rules()->config.tls->key, "");
}

TEST_F(WebAccessTest, KeepsTheRulesIfTheNewOnesHaveErrors) {
  Write("basic_auth_users: {}\nhttp_server_config: {headers: {X-Frame-Options: deny}}\n");
  WebAccess access(reader_.Read(), log_);
  WebFiles bad;
  bad.path = path_;
  bad.text = "nonsense: 1\n";
  EXPECT_FALSE(access.Update(bad));
  bad.text = TlsSection();
  EXPECT_FALSE(access.Update(bad));  // TLS can't be switched on
  EXPECT_EQ(access.Rules()->config.headers.size(), 1U);
}

TEST_F(WebAccessTest, FilesComeBackEqualFromASealedFile) {
  WebFiles files;
  files.path = "/a/b\xff.yml";
  files.text = std::string("x\0y", 3);
  files.tls.texts = {{"/c", "pem"}, {"/d", std::string("\x80\0", 2)}};
  const procfs::FileDescriptor file = SealWebFiles(files);
  const WebFiles read = UnsealWebFiles(file.get());
  EXPECT_EQ(read.path, files.path);
  EXPECT_EQ(read.text, files.text);
  EXPECT_EQ(read.tls.texts, files.tls.texts);
}

TEST_F(WebAccessTest, ReadsAgainAfterAnErrorOnlyWhatChanged) {
  Write("nonsense: 1\n");
  EXPECT_TRUE(reader_.Changed());
  EXPECT_THROW(reader_.Read(), WebAccessError);
  EXPECT_FALSE(reader_.Changed());
  Write("basic_auth_users: {}\n");
  EXPECT_TRUE(reader_.Changed());
  reader_.Read();
  EXPECT_FALSE(reader_.Changed());
  reader_.ReadAgain();
  EXPECT_TRUE(reader_.Changed());
}

TEST_F(WebAccessTest, HealthProbesAreNotLimited) {
  Write("rate_limit: {interval: 1h, burst: 1}\n");
  WebAccess access(reader_.Read(), log_);
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
