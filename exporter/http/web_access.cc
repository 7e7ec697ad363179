#include "exporter/http/web_access.h"

#include <microhttpd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <utility>

namespace cow::exporter {

WebAccess::WebAccess(const WebFiles& files, Log& log)
    : log_(log), rules_(MakeRules(files)), is_tls_(rules_->tls != nullptr) {
  rate_.Set(rules_->config.rate_limit);
}

bool WebAccess::Update(const WebFiles& files) {
  try {
    std::shared_ptr<const AccessRules> rules = MakeRules(files);
    if ((rules->tls != nullptr) != is_tls_) {
      throw WebAccessError(files.path + ": TLS can't be switched on or off without a restart");
    }
    rate_.Set(rules->config.rate_limit);
    refused_.Reset();
    const std::lock_guard lock(mutex_);
    rules_ = std::move(rules);
  } catch (const WebAccessError& error) {
    log_.Error("reload failed, the previous web configuration stays in force", {{"error", error.what()}});
    return false;
  }
  log_.Info("web configuration reloaded", {{"file", files.path}});
  return true;
}

std::optional<HttpResponse> WebAccess::Check(const HttpRequest& request) {
  const std::shared_ptr<const AccessRules> rules = Rules();
  const auto header = request.Header("authorization");
  // Apply the rate limit before checking passwords, as exporter-toolkit does. Exempt health probes without credentials:
  // busy clients must not make the service look dead.
  const bool is_probe = request.path == kHealthPath && !header;
  const auto wait = is_probe ? std::nullopt : rate_.Take();
  if (wait) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(*wait).count();
    return TextResponse(MHD_HTTP_TOO_MANY_REQUESTS, "too many requests, see rate_limit\n",
                        {{"Retry-After", std::to_string(std::max(seconds, 1L))}});
  }
  if (rules->config.users.empty()) return std::nullopt;
  const auto credentials = header ? ParseBasicAuthorization(*header) : std::nullopt;
  auto verdict = PasswordChecker::Verdict::kWrong;
  if (credentials) verdict = passwords_.Check(rules->config.users, *credentials, request.client);
  if (verdict == PasswordChecker::Verdict::kGood) return std::nullopt;
  if (verdict == PasswordChecker::Verdict::kBusy) {
    return TextResponse(MHD_HTTP_SERVICE_UNAVAILABLE, "too many password checks are waiting\n", {{"Retry-After", "5"}});
  }
  return TextResponse(MHD_HTTP_UNAUTHORIZED, "unauthorized\n",
                      {{"WWW-Authenticate", R"(Basic realm="cow_exporter", charset="UTF-8")"}});
}

std::shared_ptr<const AccessRules> WebAccess::MakeRules(const WebFiles& files) {
  auto rules = std::make_shared<AccessRules>();
  rules->config = ParseWebFiles(files);
  if (rules->config.tls) {
    try {
      rules->tls = std::make_shared<const Tls>(*rules->config.tls, files.tls, [this](const std::string& reason) {
        if (const auto admitted = refused_.Admit(reason)) {
          log_.Warn("a client's certificate was refused", {{"reason", *admitted}});
        }
      });
    } catch (const std::runtime_error& error) {
      throw WebAccessError(files.path + ": " + error.what());
    }
    std::string& key = rules->config.tls->key;  // GnuTLS holds a copy
    explicit_bzero(key.data(), key.size());
    key.clear();
  }
  return rules;
}

}  // namespace cow::exporter
