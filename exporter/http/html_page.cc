#include "exporter/http/html_page.h"

#include <gnutls/crypto.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <utility>

namespace cow::exporter {
namespace {

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --back: #fff; --text: #1c1f23; --faint: #5b636d; --line: #d9dde2; --link: #0b57d0;
  --code: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --back: #15181c; --text: #e4e7eb; --faint: #9aa3ad; --line: #343a42; --link: #8ab4f8; --code: #20252b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.5rem; }
h1 small { color: var(--faint); font-size: 1rem; font-weight: normal; }
.lead { margin: .25rem 0 1rem; color: var(--faint); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0 0 1.5rem; }
nav a { padding: .25rem 0; }
a { color: var(--link); }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .4rem .375rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--faint); font-size: .875rem; font-weight: 600; vertical-align: bottom; }
.groups th, .groups td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.groups th:first-child { width: 100%; padding-left: 0; text-align: left; }
.groups tbody th { color: inherit; font-size: 1rem; font-weight: normal; white-space: normal; overflow-wrap: anywhere; }
.groups th:last-child, .groups td:last-child { padding-right: 0; }
@media (min-width: 40rem) { .groups th, .groups td { padding: .4rem 1rem; } }
.note { margin: 1rem 0; color: var(--faint); font-size: .875rem; }
.note dt { float: left; margin-right: .5ch; font-weight: 600; }
.note dd { margin: 0 0 .25rem; }
h2 { margin: 1.75rem 0 .5rem; font-size: 1.15rem; }
code { padding: .1em .3em; border-radius: 3px; background: var(--code); font: .875em ui-monospace, monospace;
  overflow-wrap: anywhere; }
pre { padding: .75rem 1rem; border-radius: 6px; background: var(--code); overflow-x: auto; }
pre code { padding: 0; overflow-wrap: normal; }
li { margin: .25rem 0; }
)";

// A content security policy that allows only the style.
std::string Policy() {
  std::array<unsigned char, 32> digest{};
  gnutls_datum_t encoded{};
  const gnutls_datum_t raw{digest.data(), static_cast<unsigned>(digest.size())};
  if (gnutls_hash_fast(GNUTLS_DIG_SHA256, kStyle.data(), kStyle.size(), digest.data()) != 0 ||
      gnutls_base64_encode2(&raw, &encoded) != 0) {
    throw std::runtime_error("no hash of the style");
  }
  const std::unique_ptr<unsigned char, decltype(gnutls_free)> owner(encoded.data, gnutls_free);
  const std::string hash(encoded.data, encoded.data + encoded.size);
  return "default-src 'none'; style-src 'sha256-" + hash +
         "'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&') {
      escaped += "&amp;";
    } else if (c == '<') {
      escaped += "&lt;";
    } else if (c == '>') {
      escaped += "&gt;";
    } else if (c == '"') {
      escaped += "&quot;";
    } else if (c == '\'') {
      escaped += "&#39;";
    } else if (byte < 0x20 || byte == 0x7f) {
      escaped += "\xEF\xBF\xBD";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

HtmlPage::HtmlPage() : policy_(Policy()) {}

std::string HtmlPage::Head(std::string_view title, std::string_view meta) {
  std::string head =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  head += meta;
  head += "<title>" + EscapeHtml(title) + "</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>";
  head += kStyle;
  head += "</style>\n</head>\n<body>\n";
  return head;
}

std::string_view HtmlPage::Tail() { return "</body>\n</html>\n"; }

HttpResponse HtmlPage::Respond(std::string page) const {
  HttpResponse response;
  response.content_type = kHtml;
  response.body = std::move(page);
  response.headers = {{"Content-Security-Policy", policy_},
                      {"X-Frame-Options", "DENY"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-store"}};
  return response;
}

}  // namespace cow::exporter
