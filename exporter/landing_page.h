// The page at `/`. Pure, any thread.
#pragma once

#include <string>

#include "exporter/http_message.h"

namespace cow::exporter {

HttpResponse LandingPage(const std::string& version, const std::string& telemetry_path);

}  // namespace cow::exporter
