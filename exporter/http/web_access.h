// Controls access to the server: holds the web configuration in force and replaces it. Everything can change without a
// restart, except whether TLS is used.
//
// Any thread.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "config/web_config.h"
#include "exporter/http/authentication.h"
#include "exporter/http/http_message.h"
#include "exporter/http/rate_limiter.h"
#include "exporter/http/tls.h"
#include "exporter/http/web_files.h"
#include "exporter/log/log.h"
#include "exporter/log/log_once.h"

namespace cow::exporter {

struct AccessRules {
  config::WebConfig config;        // an inline private key is erased
  std::shared_ptr<const Tls> tls;  // null: no TLS
};

class WebAccess {
 public:
  // `log` must outlive this object. Throws WebAccessError.
  WebAccess(const WebFiles& files, Log& log);

  // Replaces the rules. If `files` has errors, logs them, keeps the previous rules and returns false.
  bool Update(const WebFiles& files);

  // The rules in force. Never null.
  std::shared_ptr<const AccessRules> Rules() const {
    const std::lock_guard lock(mutex_);
    return rules_;
  }
  // True if the configuration used TLS at the start.
  [[nodiscard]] bool IsTls() const { return is_tls_; }

  // Checks the rate limit and the credentials. Returns nothing if the request may pass, else the refusal.
  std::optional<HttpResponse> Check(const HttpRequest& request);
  // Ends all waiting for password checks.
  void Stop() { passwords_.Stop(); }

 private:
  // Throws WebAccessError.
  [[nodiscard]] std::shared_ptr<const AccessRules> MakeRules(const WebFiles& files);
  void SetRules(std::shared_ptr<const AccessRules> rules);

  Log& log_;
  PasswordChecker passwords_;
  RateLimiter rate_;
  LogOnce refused_;
  mutable std::mutex mutex_;
  std::shared_ptr<const AccessRules> rules_;
  const bool is_tls_;
};

}  // namespace cow::exporter
