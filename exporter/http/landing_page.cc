#include "exporter/http/landing_page.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string_view>
#include <utility>

#include "exporter/explain/words.h"

namespace cow::exporter {
namespace {

// Browsers load the page again after 10 seconds, the default of scan.interval.
constexpr std::string_view kRefresh = "<meta http-equiv=\"refresh\" content=\"10\">\n";

constexpr std::string_view kNotes =
    "<dl class=\"note\">\n"
    "<dt>Exposure</dt><dd>Memory by which the group grows if every shared page is written.</dd>\n"
    "<dt>Breaks</dt><dd>Shared pages that a member replaced by its own, averaged over the last minute.</dd>\n"
    "<dt>–</dt><dd>No value: no process of the group has forked since the exporter started, a rate needs two passes, "
    "or "
    "the exporter may not read what it needs (<code>cow_group_mode</code>).</dd>\n"
    "</dl>\n";

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

}  // namespace

LandingPage::LandingPage(const std::string& version, const std::vector<Link>& links)
    : head_(HtmlPage::Head("cow_exporter", kRefresh)) {
  head_ += "<h1>cow_exporter <small>" + EscapeHtml(version) +
           "</small></h1>\n<p class=\"lead\">Memory that copy-on-write saves, and what breaks its sharing. This page "
           "refreshes itself every 10 seconds.</p>\n<nav>\n";
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
        "<table class=\"groups\">\n<thead><tr><th scope=\"col\">Group</th><th scope=\"col\">Processes</th>"
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
    page += "</tbody>\n</table>\n";
    page += kNotes;
  }
  page += "</main>\n";
  page += HtmlPage::Tail();
  return frame_.Respond(std::move(page));
}

}  // namespace cow::exporter
