// Formats --help for 80 columns: usage, description, the flags by group, the commands and the footer. Shows a
// collector's two flags on one line, as --[no-]collector.NAME. Pure, any thread.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace cow::exporter {

class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
};

}  // namespace cow::exporter
