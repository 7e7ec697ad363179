// The pages below `/runbooks/`: an index, and one runbook per alert. deploy/runbooks/render renders them from
// deploy/runbooks/*.md to runbooks/*.html; CMake puts those into the program, because the front opens no file.
// Immutable; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "exporter/http/http_message.h"

namespace cow::exporter {

inline constexpr std::string_view kRunbooksPath = "/runbooks/";

struct Runbook {
  std::string_view name;  // an alert's name; "index" for the index
  std::string_view html;  // the content of <main>
};

// All runbooks and the index.
const std::vector<Runbook>& Runbooks();

struct RunbookPage {
  std::string path;
  HttpResponse response;
};

std::vector<RunbookPage> RunbookPages();

}  // namespace cow::exporter
