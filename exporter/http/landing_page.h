// The page at `/`: what this is, where the rest is, and the groups in a small table. One file without a script; its
// style is allowed by its hash. Immutable; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "exporter/http/http_message.h"
#include "exporter/scan/group_history.h"

namespace cow::exporter {

// As text between tags, or in a quoted attribute. Control characters, which HTML does not take, become U+FFFD.
std::string EscapeHtml(std::string_view text);

// With a binary unit and three digits at most: 412 MiB, 1.25 GiB.
std::string FormatBytes(double bytes);

class LandingPage {
 public:
  struct Link {
    std::string path;
    std::string text;
  };

  LandingPage(const std::string& version, const std::vector<Link>& links);

  [[nodiscard]] HttpResponse Show(const std::vector<GroupSummary>& groups) const;

 private:
  std::string head_;  // up to the table
  std::string policy_;
};

}  // namespace cow::exporter
