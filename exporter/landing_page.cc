#include "exporter/landing_page.h"

#include <memory>

namespace cow::exporter {

HttpResponse LandingPage(const std::string& version, const std::string& telemetry_path) {
  HttpResponse response;
  response.content_type = kHtml;
  response.body = std::make_shared<const std::string>(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta "
      "charset=\"utf-8\"><title>cow_exporter</title></head>\n<body>\n"
      "<h1>cow_exporter</h1>\n<p>Prometheus exporter for copy-on-write memory, version " +
      version + ".</p>\n<ul>\n<li><a href=\"" + telemetry_path +
      "\">Metrics</a></li>\n"
      "<li><a href=\"/-/healthy\">Health</a></li>\n<li><a href=\"/-/ready\">Readiness</a></li>\n</ul>\n"
      "</body>\n</html>\n");
  response.headers.emplace_back("Content-Security-Policy",
                                "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  return response;
}

}  // namespace cow::exporter
