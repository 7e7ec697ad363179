#include "exporter/http/web_access.h"

#include <microhttpd.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <optional>
#include <utility>

#include "config/tls_files.h"

namespace cow::exporter {
namespace {

std::array<int64_t, 7> MarkOf(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return {};
  return {static_cast<int64_t>(info.st_dev),
          static_cast<int64_t>(info.st_ino),
          info.st_size,
          info.st_mtim.tv_sec,
          info.st_mtim.tv_nsec,
          info.st_ctim.tv_sec,
          info.st_ctim.tv_nsec};
}

}  // namespace

WebAccess::WebAccess(std::string path, Log& log) : path_(std::move(path)), log_(log) {
  rules_ = Load();
  watches_all_ = true;
  is_tls_ = rules_->tls != nullptr;
  rate_.Set(rules_->config.rate_limit);
}

std::shared_ptr<const AccessRules> WebAccess::Rules() {
  const std::lock_guard lock(mutex_);
  if (!Changed()) return rules_;
  try {
    Reload();
  } catch (const std::exception& error) {  // no memory: the next call tries again
    if (const auto admitted = failures_.Admit(error.what())) {
      log_.Error("reload failed, the previous web configuration stays in force", {{"error", *admitted}});
    }
  }
  return rules_;
}

void WebAccess::Reload() {
  try {
    std::shared_ptr<const AccessRules> rules = Load();
    if ((rules->tls != nullptr) != is_tls_) {
      throw WebAccessError(path_ + ": TLS can't be switched on or off without a restart");
    }
    rules_ = std::move(rules);
    rate_.Set(rules_->config.rate_limit);
    refused_.Reset();
    log_.Info("web configuration reloaded", {{"file", path_}});
  } catch (const WebAccessError& error) {
    WatchFilesOf(rules_->config);
    log_.Error("reload failed, the previous web configuration stays in force", {{"error", error.what()}});
  }
  watches_all_ = true;
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

void WebAccess::Watch(const std::string& path) { watched_.push_back({path, MarkOf(path)}); }

void WebAccess::WatchFilesOf(const config::WebConfig& config) {
  if (!config.tls) return;
  for (const std::string* file : {&config.tls->cert_file, &config.tls->key_file, &config.tls->client_ca_file}) {
    if (!file->empty()) Watch(*file);
  }
}

bool WebAccess::Changed() const {
  return !watches_all_ || std::any_of(watched_.begin(), watched_.end(),
                                      [](const WatchedFile& file) { return MarkOf(file.path) != file.mark; });
}

std::shared_ptr<const AccessRules> WebAccess::Load() {
  watches_all_ = false;
  watched_.clear();
  Watch(path_);
  config::WebLoadResult loaded = config::LoadWebConfig(path_);
  std::string errors;
  for (const config::ConfigError& error : loaded.errors) {
    errors.append(errors.empty() ? "" : "\n").append(error.ToString());
  }
  if (!errors.empty()) throw WebAccessError(errors);
  WatchFilesOf(loaded.config);
  auto rules = std::make_shared<AccessRules>();
  rules->config = std::move(loaded.config);
  if (rules->config.tls) {
    const auto files = config::ReadTlsFiles(*rules->config.tls);
    if (!files) throw WebAccessError(path_ + ": " + files.error());
    try {
      rules->tls = std::make_shared<const Tls>(*rules->config.tls, *files, [this](const std::string& reason) {
        if (const auto admitted = refused_.Admit(reason)) {
          log_.Warn("a client's certificate was refused", {{"reason", *admitted}});
        }
      });
    } catch (const std::runtime_error& error) {
      throw WebAccessError(path_ + ": " + error.what());
    }
    std::string& key = rules->config.tls->key;  // GnuTLS holds a copy
    explicit_bzero(key.data(), key.size());
    key.clear();
  }
  return rules;
}

}  // namespace cow::exporter
