#include "exporter/explain/output.h"

#include <cerrno>
#include <system_error>

namespace cow::exporter {

bool Write(std::FILE* out, const std::string& text) {
  return std::fwrite(text.data(), 1, text.size(), out) == text.size() && std::fflush(out) == 0;
}

std::optional<int> WriteResult(std::FILE* out, const std::string& text, std::FILE* problem) {
  if (Write(out, text)) return std::nullopt;
  if (errno == EPIPE) return 0;
  Write(problem, "cow_exporter: writing failed: " + std::generic_category().message(errno) + "\n");
  return 1;
}

}  // namespace cow::exporter
