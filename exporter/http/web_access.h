// Controls access to the server: holds the web configuration in force and reloads it when it changes.
//
// Checks the files for changes before each connection and request. If one changed, reads all of them again. If that
// fails, logs it once and keeps the previous configuration. Everything can change without a restart, except whether TLS
// is used.
//
// Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "config/web_config.h"
#include "exporter/http/authentication.h"
#include "exporter/http/http_message.h"
#include "exporter/http/rate_limiter.h"
#include "exporter/http/tls.h"
#include "exporter/log/log.h"
#include "exporter/log/log_once.h"

namespace cow::exporter {

// All errors of the web configuration and its files, one per line.
class WebAccessError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct AccessRules {
  config::WebConfig config;        // an inline private key is erased
  std::shared_ptr<const Tls> tls;  // null: no TLS
};

class WebAccess {
 public:
  // `log` must outlive this object. Throws WebAccessError.
  WebAccess(std::string path, Log& log);

  // The rules in force, reloaded if a file changed. Never null.
  std::shared_ptr<const AccessRules> Rules();
  // True if the configuration used TLS at the start.
  [[nodiscard]] bool IsTls() const { return is_tls_; }

  // Checks the rate limit and the credentials. Returns nothing if the request may pass, else the refusal.
  std::optional<HttpResponse> Check(const HttpRequest& request);
  // Ends all waiting for password checks.
  void Stop() { passwords_.Stop(); }

 private:
  // A file and the state that reveals a replacement or a write.
  struct WatchedFile {
    std::string path;
    std::array<int64_t, 7> mark{};
  };

  void Watch(const std::string& path);
  void WatchFilesOf(const config::WebConfig& config);
  [[nodiscard]] bool Changed() const;
  void Reload();
  // Marks each file before reading it, so that no change is missed. Throws WebAccessError.
  [[nodiscard]] std::shared_ptr<const AccessRules> Load();

  const std::string path_;
  Log& log_;
  PasswordChecker passwords_;
  RateLimiter rate_;
  LogOnce refused_;
  LogOnce failures_;
  bool is_tls_ = false;
  std::mutex mutex_;
  std::shared_ptr<const AccessRules> rules_;
  std::vector<WatchedFile> watched_;  // files of the rules in force and of the last attempt
  bool watches_all_ = false;          // false if an attempt to load was interrupted
};

}  // namespace cow::exporter
