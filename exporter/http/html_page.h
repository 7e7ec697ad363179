// What all HTML pages of the exporter share: the head, the style and the response headers. A page is one file without
// scripts; the content security policy allows its style by hash. Immutable; any thread.
#pragma once

#include <string>
#include <string_view>

#include "exporter/http/http_message.h"

namespace cow::exporter {

// Escapes text for use between tags or in a quoted attribute. Replaces control characters by U+FFFD.
std::string EscapeHtml(std::string_view text);

class HtmlPage {
 public:
  // Throws std::runtime_error if the style can't be hashed.
  HtmlPage();

  // Returns the page up to and including <body>. `title` is text; `meta` is HTML for the head.
  [[nodiscard]] static std::string Head(std::string_view title, std::string_view meta = {});
  [[nodiscard]] static std::string_view Tail();
  [[nodiscard]] HttpResponse Respond(std::string page) const;

 private:
  std::string policy_;
};

}  // namespace cow::exporter
