// Who may talk to the server, and how: the web configuration in force, with its certificates read.
//
// The files are looked at before each connection and each request that needs them; when one has changed, all are read
// again. If that fails the old ones stay in force, and the log says so once. Users, headers, the limit of requests and
// everything about TLS but whether there is any can change so.
//
// Any thread, but for the constructor.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "config/web_config.h"
#include "exporter/http/authentication.h"
#include "exporter/http/http_message.h"
#include "exporter/http/rate_limiter.h"
#include "exporter/http/tls.h"
#include "exporter/log/log.h"
#include "exporter/log/told_once.h"

namespace cow::exporter {

// Every error of the file or of what it names, one in a line.
class WebAccessError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct AccessRules {
  config::WebConfig config;        // without the text of a key
  std::shared_ptr<const Tls> tls;  // null: no TLS
};

class WebAccess {
 public:
  // `log` outlives it. Throws WebAccessError.
  WebAccess(std::string path, Log& log);

  // As of now. Never null.
  std::shared_ptr<const AccessRules> Rules();
  // Whether it was TLS at the start; that stays.
  [[nodiscard]] bool IsTls() const { return is_tls_; }

  // Null if the request may pass, else the answer.
  std::unique_ptr<HttpResponse> Refusal(const HttpRequest& request);
  // Ends the waiting of those whose passwords are to be checked.
  void Stop() { passwords_.Stop(); }

 private:
  // What tells that a file is another one, or has been written to.
  struct WatchedFile {
    std::string path;
    std::array<int64_t, 7> mark{};
  };

  void Watch(const std::string& path);
  void WatchFilesOf(const config::WebConfig& config);
  [[nodiscard]] bool Changed() const;
  void ReadAgain();
  // Watches each file before it reads it, so that no change is missed. Throws WebAccessError.
  [[nodiscard]] std::shared_ptr<const AccessRules> Load();

  const std::string path_;
  Log& log_;
  PasswordChecker passwords_;
  RateLimiter rate_;
  ToldOnce refused_;
  ToldOnce failures_;
  bool is_tls_ = false;
  std::mutex mutex_;
  std::shared_ptr<const AccessRules> rules_;
  // Those of the rules in force and of the last attempt, as they were then.
  std::vector<WatchedFile> watched_;
  bool watches_all_ = false;  // else an attempt broke off
};

}  // namespace cow::exporter
