#include "exporter/http/runbooks.h"

#include <utility>

#include "exporter/http/html_page.h"

namespace cow::exporter {

std::vector<RunbookPage> RunbookPages() {
  const HtmlPage frame;
  std::vector<RunbookPage> pages;
  for (const Runbook& runbook : Runbooks()) {
    const bool is_index = runbook.name == "index";
    std::string page = HtmlPage::Head(is_index ? "Runbooks" : runbook.name);
    // Relative links work behind a proxy with a path prefix too.
    page += is_index ? "<nav><a href=\"..\">cow_exporter</a></nav>\n"
                     : "<nav><a href=\"..\">cow_exporter</a><a href=\"./\">Runbooks</a></nav>\n";
    page += "<main>\n";
    page += runbook.html;
    page += "</main>\n";
    page += HtmlPage::Tail();
    std::string path(kRunbooksPath);
    if (!is_index) path += runbook.name;
    pages.push_back({std::move(path), frame.Respond(std::move(page))});
  }
  return pages;
}

}  // namespace cow::exporter
