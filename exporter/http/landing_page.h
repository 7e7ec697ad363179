// The page at `/`: links to the other pages and a table of the groups. It refreshes itself. Immutable; any thread.
#pragma once

#include <string>
#include <vector>

#include "exporter/http/html_page.h"
#include "exporter/http/http_message.h"
#include "exporter/snapshot/snapshot.h"

namespace cow::exporter {

class LandingPage {
 public:
  struct Link {
    std::string path;
    std::string text;
  };

  LandingPage(const std::string& version, const std::vector<Link>& links);

  [[nodiscard]] HttpResponse Show(const std::vector<GroupSummary>& groups) const;

 private:
  HtmlPage frame_;
  std::string head_;  // everything before the table
};

}  // namespace cow::exporter
