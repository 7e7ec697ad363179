#include "exporter/http/landing_page.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "exporter/http/html_page.h"
#include "exporter/http/http_message.h"
#include "exporter/snapshot/snapshot.h"

namespace cow::exporter {
namespace {

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(EscapeHtmlTest, Everything) {
  EXPECT_EQ(EscapeHtml("<a href=\"x\">&'</a>"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;&lt;/a&gt;");
  EXPECT_EQ(EscapeHtml(std::string("a\0b\x7f\n", 5)),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(EscapeHtml("grün"), "grün");
}

TEST(LandingPageTest, ShowsGroupsAndLinks) {
  const LandingPage page("1.2<3", {{"/m", "Metrics"}});
  const HttpResponse response = page.Show({{"<script>", 3, 1536, 12.5}, {"quiet", 1, {}, {}}, {"still", 2, 0, 0}});
  const std::string body(*response.body);
  EXPECT_EQ(response.content_type, "text/html; charset=utf-8");
  EXPECT_NE(body.find("1.2&lt;3"), std::string::npos);
  EXPECT_NE(body.find("<a href=\"/m\">Metrics</a>"), std::string::npos);
  EXPECT_NE(body.find("<bdi>&lt;script&gt;</bdi></th><td>3</td><td>1.5 KiB</td><td>12.5</td></tr>"), std::string::npos);
  EXPECT_NE(body.find("<bdi>quiet</bdi></th><td>1</td><td>–</td><td>–</td></tr>"), std::string::npos);
  EXPECT_NE(body.find("<bdi>still</bdi></th><td>2</td><td>0</td><td>0</td></tr>"), std::string::npos);
  EXPECT_EQ(body.find("<script"), std::string::npos);
}

TEST(LandingPageTest, RefreshesItselfAndExplainsTheDash) {
  const std::string body(*LandingPage("1", {}).Show({{"quiet", 1, {}, {}}}).body);
  EXPECT_NE(body.find("<meta http-equiv=\"refresh\" content=\"10\">"), std::string::npos);
  EXPECT_NE(body.find("refreshes itself every 10 seconds"), std::string::npos);
  EXPECT_NE(body.find("<dt>–</dt><dd>No value: no process of the group has forked"), std::string::npos);
}

TEST(LandingPageTest, IsWellFormed) {
  const LandingPage page("1", {{"/m", "Metrics"}, {"/-/ready", "Readiness"}});
  for (const auto& groups : {std::vector<GroupSummary>{}, std::vector<GroupSummary>{{"a", 1, 1, 1}}}) {
    const std::string body(*page.Show(groups).body);
    for (const std::string tag : {"html", "head", "title", "style", "body", "nav", "main", "table", "thead", "tbody"}) {
      EXPECT_EQ(Count(body, "<" + tag + ">") + Count(body, "<" + tag + " "), Count(body, "</" + tag + ">")) << tag;
    }
    for (const std::string tag : {"tr", "th", "td", "bdi", "p", "a", "h1", "small", "dl", "dt", "dd", "code"}) {
      EXPECT_EQ(Count(body, "<" + tag + ">") + Count(body, "<" + tag + " "), Count(body, "</" + tag + ">")) << tag;
    }
  }
}

TEST(LandingPageTest, PolicyAllowsTheStyleByItsHashAndNoMore) {
  const HttpResponse response = LandingPage("1", {}).Show({});
  std::string policy;
  for (const auto& [name, value] : response.headers) {
    if (name == "Content-Security-Policy") policy = value;
  }
  EXPECT_EQ(policy.find("default-src 'none'; style-src 'sha256-"), 0U) << policy;
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
  EXPECT_EQ(policy.find("http"), std::string::npos);
  EXPECT_EQ(response.body->find(" style="), std::string::npos);
}

}  // namespace
}  // namespace cow::exporter
