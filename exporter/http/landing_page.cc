#include "exporter/http/landing_page.h"

#include <gnutls/crypto.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <stdexcept>

#include "exporter/explain/words.h"

namespace cow::exporter {
namespace {

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --back: #fff; --text: #1c1f23; --faint: #5b636d; --line: #d9dde2; --link: #0b57d0; }
@media (prefers-color-scheme: dark) {
  :root { --back: #15181c; --text: #e4e7eb; --faint: #9aa3ad; --line: #343a42; --link: #8ab4f8; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.5rem; }
h1 small { color: var(--faint); font-size: 1rem; font-weight: normal; }
p { margin: .25rem 0 1rem; color: var(--faint); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0 0 1.5rem; }
nav a { padding: .25rem 0; }
a { color: var(--link); }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .4rem .375rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th { color: var(--faint); font-size: .875rem; font-weight: 600; vertical-align: bottom; }
th:first-child { width: 100%; padding-left: 0; text-align: left; }
tbody th { color: inherit; font-size: 1rem; font-weight: normal; white-space: normal; overflow-wrap: anywhere; }
th:last-child, td:last-child { padding-right: 0; }
@media (min-width: 40rem) { th, td { padding: .4rem 1rem; } }
.note { margin-top: 1rem; font-size: .875rem; }
)";

std::string Format(const char* format, double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, value);
  return buffer.data();
}

// Formats three digits, or all digits of a larger integer part.
std::string ThreeDigits(double value) {
  if (value < 9.995) return Format("%.2f", value);
  return Format(value < 99.95 ? "%.1f" : "%.0f", value);
}

std::string Cell(const std::optional<std::string>& text) { return "<td>" + text.value_or("–") + "</td>"; }

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

LandingPage::LandingPage(const std::string& version, const std::vector<Link>& links) : policy_(Policy()) {
  head_ =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>cow_exporter</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>";
  head_ += kStyle;
  head_ += "</style>\n</head>\n<body>\n<h1>cow_exporter <small>" + EscapeHtml(version) +
           "</small></h1>\n<p>Memory that copy-on-write saves, and what breaks its sharing.</p>\n<nav>\n";
  for (const Link& link : links) {
    head_ += "<a href=\"" + EscapeHtml(link.path) + "\">" + EscapeHtml(link.text) + "</a>\n";
  }
  head_ += "</nav>\n<main>\n";
}

HttpResponse LandingPage::Show(const std::vector<GroupSummary>& groups) const {
  std::string page = head_;
  if (groups.empty()) {
    page += "<p>No group yet.</p>\n";
  } else {
    page +=
        "<table>\n<thead><tr><th scope=\"col\">Group</th><th scope=\"col\">Processes</th>"
        "<th scope=\"col\">Exposure</th><th scope=\"col\">Breaks/s</th></tr></thead>\n<tbody>\n";
    for (const GroupSummary& group : groups) {
      const auto text = [](const std::optional<double>& value, auto format) {
        return value ? std::optional<std::string>(format(*value)) : std::nullopt;
      };
      page += "<tr><th scope=\"row\"><bdi>" + EscapeHtml(group.group) + "</bdi></th>";
      page += Cell(text(group.processes, [](double count) { return Format("%.0f", count); }));
      page += Cell(text(group.exposure_bytes, [](double bytes) { return HumanBytes(static_cast<uint64_t>(bytes)); }));
      page += Cell(text(group.breaks_per_second, [](double rate) { return rate == 0 ? "0" : ThreeDigits(rate); }));
      page += "</tr>\n";
    }
    page +=
        "</tbody>\n</table>\n<p class=\"note\">Exposure: memory by which the group grows if every shared page is "
        "written. Breaks: shared pages that a member replaced by its own, averaged over the last minute.</p>\n";
  }
  page += "</main>\n</body>\n</html>\n";

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
