// The page at `/`: links to the other pages and a table of the groups. One HTML file without scripts; the content
// security policy allows its style by hash. Immutable; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "exporter/http/http_message.h"
#include "exporter/snapshot/snapshot.h"

namespace cow::exporter {

// Escapes text for use between tags or in a quoted attribute. Replaces control characters by U+FFFD.
std::string EscapeHtml(std::string_view text);

class LandingPage {
 public:
  struct Link {
    std::string path;
    std::string text;
  };

  LandingPage(const std::string& version, const std::vector<Link>& links);

  [[nodiscard]] HttpResponse Show(const std::vector<GroupSummary>& groups) const;

 private:
  std::string head_;  // everything before the table
  std::string policy_;
};

}  // namespace cow::exporter
