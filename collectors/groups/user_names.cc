#include "collectors/groups/user_names.h"

#include <pwd.h>

#include <cerrno>
#include <vector>

namespace cow::collectors {

const std::string& UserNames::NameOf(uint32_t uid) {
  if (const auto known = names_.find(uid); known != names_.end()) return known->second;
  if (names_.size() >= kMaxKept) names_.clear();
  return names_.emplace(uid, find_(uid).value_or(std::to_string(uid))).first->second;
}

std::optional<std::string> FindUserName(uint32_t uid) {
  constexpr size_t kMaxBytes = size_t{1} << 20U;
  for (size_t bytes = 1024; bytes <= kMaxBytes; bytes *= 4) {
    std::vector<char> buffer(bytes);
    passwd entry{};
    passwd* found = nullptr;
    const int error = getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
    if (error == ERANGE) continue;
    if (error != 0 || found == nullptr || entry.pw_name == nullptr) return std::nullopt;
    return std::string(entry.pw_name);
  }
  return std::nullopt;
}

}  // namespace cow::collectors
