// Selects the collectors whose metrics a client wants. A plain value.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>

namespace cow::exporter {

struct CollectorFilter {
  enum class Kind { kAll, kOnly, kExcept };

  Kind kind = Kind::kAll;
  std::set<std::string, std::less<>> names;  // empty for kAll

  // The exporter's own families (empty name) always pass.
  [[nodiscard]] bool Wants(std::string_view collector) const {
    if (kind == Kind::kAll || collector.empty()) return true;
    return names.contains(collector) == (kind == Kind::kOnly);
  }
};

}  // namespace cow::exporter
