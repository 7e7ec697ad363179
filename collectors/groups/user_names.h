// Caches the names of users from this host's user database (getpwuid_r). Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>

namespace cow::collectors {

class UserNames {
 public:
  static constexpr size_t kMaxKept = 4096;  // a full cache is emptied
  using Find = std::function<std::optional<std::string>(uint32_t uid)>;

  explicit UserNames(Find find) : find_(std::move(find)) {}

  // Returns the user's name, or the number if there is no name. Valid until the next call.
  const std::string& NameOf(uint32_t uid);

 private:
  Find find_;
  std::unordered_map<uint32_t, std::string> names_;
};

// Asks the user database, which may use the network.
std::optional<std::string> FindUserName(uint32_t uid);

}  // namespace cow::collectors
