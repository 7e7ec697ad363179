// Of which collectors somebody wants to see the metrics. A plain value.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>

namespace cow::exporter {

struct CollectorFilter {
  enum class Kind { kAll, kOnly, kExcept };

  Kind kind = Kind::kAll;
  std::set<std::string, std::less<>> names;  // none if all are wanted

  // What no collector made (empty) is always wanted.
  [[nodiscard]] bool Wants(std::string_view collector) const {
    if (kind == Kind::kAll || collector.empty()) return true;
    return names.contains(collector) == (kind == Kind::kOnly);
  }
};

}  // namespace cow::exporter
